"""The page of a run: sizes, both graphs, scores, checks, and what each pass changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from irprune.cli.results import size_rows
from irprune.passmanager import PipelineReport
from irprune.report.model import Report
from irprune.versions import versions

Payload = Mapping[str, Any]


def build_report(
    payload: Payload,
    report: PipelineReport,
    graphs: tuple[Any, Any],
    changes: Sequence[Mapping[str, Any]],
) -> Report:
    """The page that ``prune``, ``optimize`` and ``run`` write.

    Args:
        payload: what ``--json`` prints.
        report: of the pipeline.
        graphs: before and after.
        changes: for each pass what it changed, as ``ChangeLog`` has it.
    """
    from irprune.picture.build import pictures_of

    before, after = graphs
    wrote = f" and wrote {payload['output']}" if payload["output"] else ""
    return Report(
        title=str(payload["model"]),
        summary=f"{len(report.passes)} passes took {report.seconds:.1f} s{wrote}.",
        models=("before", "after"),
        rows=size_rows(report.before, report.after),
        pictures=pictures_of(before, after),
        irreps=(payload["irreps_before"], payload["irreps"]),
        irreps_names=("before", "after"),
        checks=tuple(payload["checks"]),
        passes=passes_of(report, changes),
        pipeline=report.pipeline,
        tier=payload["tier"] or "",
        versions=versions(),
    )


def passes_of(
    report: PipelineReport, changes: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    """The passes as a page shows them."""
    return tuple({**p.to_json(), "changes": c} for p, c in zip(report.passes, changes, strict=True))
