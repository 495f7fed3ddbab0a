"""What the verbs answer: the keys of ``--json``, and the tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from irprune.passmanager import CheckLike, PipelineReport, StatsLike, check_json
from irprune.report.model import Report, Row, structures_seen

if TYPE_CHECKING:
    from irprune.cli.common import Session


def sizes(before: StatsLike, after: StatsLike | None = None) -> dict[str, Any]:
    """Parameters, FLOPs per atom and blocks, before and after (equal where nothing was done)."""
    after = after or before
    return {
        "params": after.params,
        "params_before": before.params,
        "flops_per_atom": after.flops_per_atom,
        "flops_per_atom_before": before.flops_per_atom,
        "blocks": after.blocks,
        "blocks_before": before.blocks,
    }


def checks_json(checks: Iterable[CheckLike]) -> list[dict[str, Any]]:
    """Checks as JSON, with their detail where they have one."""
    return [{**check_json(c), "detail": getattr(c, "detail", "")} for c in checks]


def compiled_json(graph: Any, counts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Backend and, where something ran, counts of what torch.compile made; None if nothing is."""
    if graph.compiled is None:
        return None
    return {**graph.compiled.to_json(), **(counts or {})}


def print_compiled(session: Session, found: Mapping[str, Any] | None) -> None:
    """``compiled: 1 graph, 0 recompilations (inductor)``, where a graph is compiled."""
    if found is not None:
        from irprune.compiling.rung import summary

        counts = summary(found) if "graphs" in found else "at the first call"
        session.console.print(f"compiled: {counts} ({found['backend']})", markup=False)


def size_rows(before: StatsLike, after: StatsLike) -> tuple[Row, ...]:
    """The rows that every comparison starts with."""
    return (
        Row("parameters", "", (before.params, after.params), compare=True),
        Row("FLOPs per atom", "", (before.flops_per_atom, after.flops_per_atom), compare=True),
        Row("blocks", "", (before.blocks, after.blocks), compare=True),
    )


def print_run(
    session: Session,
    payload: Mapping[str, Any],
    report: PipelineReport | None,
    irreps: Sequence[Mapping[str, str]],
    before: StatsLike,
    after: StatsLike,
) -> None:
    """Tables of a run: sizes, structure, passes, checks, where the result is."""
    from rich.console import Group

    from irprune.report import terminal

    shown = Report(str(payload["model"]), ("before", "after"), size_rows(before, after))
    parts: list[Any] = [terminal.comparison_table(shown)]
    if len(irreps) == 2:
        parts += ["", terminal.irreps_table(irreps[0], irreps[1])]
    if report is not None and report.passes:
        parts += ["", terminal.passes_table([p.to_json() for p in report.passes])]
    if payload.get("checks"):
        parts += ["", terminal.checks_table(payload["checks"])]
    session.console.print(Group(*parts))
    for name, stayed in payload.get("left", {}).items():
        for node, reason in stayed.items():
            session.console.print(f"{name} left {node}: {reason}", markup=False)
    for node, bound in payload.get("bounds", {}).items():
        session.console.print(
            f"tabulated {node}: {bound['polynomials']} polynomials, proven to {bound['value']:.1e}"
            f" (values) and {bound['slope']:.1e} (slopes)",
            markup=False,
        )
    scored = payload.get("score") or {}
    if scored.get("given"):
        seen = structures_seen(scored["structures"], scored["given"])
        session.console.print(f"scored on {seen}", markup=False)
    for timed in payload.get("latency", []):
        on = f" on {timed['atoms']} atoms" if "atoms" in timed else ""
        session.console.print(
            f"latency{on}: {timed['ratio']:.3f} of the original's, quartiles {timed['q1']:.3f} to"
            f" {timed['q3']:.3f} of {len(timed['ratios'])} rounds; {len(timed['timed'])} timings",
            markup=False,
        )
    laid = payload.get("layout")
    if laid is not None:
        session.console.print(
            f"rows in {laid['layout']}: {laid['made']} conversions made, {laid['cancelled']} cancelled,"
            f" {laid['left']} left",
            markup=False,
        )
    for choice, modules in payload.get("kernels", {}).items():
        session.console.print(f"kernels: {len(modules)} by {choice}", markup=False)
    print_compiled(session, payload.get("compiled"))
    if payload.get("output"):
        session.console.print(
            f"\nwritten: {payload['output']} (tier: {payload['tier']})", markup=False
        )
