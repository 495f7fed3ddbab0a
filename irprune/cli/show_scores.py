"""What ``irprune show --scores`` adds: scores as JSON, as a report and as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irprune.cli.common import Session
from irprune.report.model import Importance

_SHOWN = 10


def score(
    session: Session, graph: Any, criterion: str, data: str | None
) -> tuple[Any, dict[str, Any]]:
    """The graph with scores, their detail, and every score of every axis."""
    from irprune import api
    from irprune.importance import scores_json

    frames = session.frames(data, graph.atomistic) if data else None
    where = "" if session.device == "cpu" else f",device={session.device}"
    with session.progress("irprune") as progress:
        scored = api.run(
            f"score{{by={criterion}{where}}}", graph, frames, seed=session.seed, progress=progress
        )
    return scored, dict(scores_json(scored))


def importance_of(found: Mapping[str, Any] | None) -> Importance | None:
    """Scores as a page shows them."""
    if found is None:
        return None
    return Importance(
        criterion=found["criterion"],
        blocks=_blocks(found["axes"]),
        layers=found["layers"],
        elements=found["elements"] or {},
        structures=found.get("structures"),
        given=found.get("given"),
        stability=(found["stability"] or {}).get("overall"),
    )


def _blocks(axes: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """layer → irrep → scores of the channel blocks (k, l), without those that have none."""
    out: dict[str, dict[str, list[float]]] = {}
    for axis in axes:
        known = [v for v in axis["scores"] if v == v]
        if axis["kind"] == "channel" and axis["irrep"][:-1].isdigit() and known:
            out.setdefault(axis["layer"], {}).setdefault(axis["irrep"], []).extend(known)
    return {layer: dict(sorted(found.items())) for layer, found in out.items()}


def print_scores(session: Session, found: Mapping[str, Any]) -> None:
    """Sums by layer and by element, and how stable the ranking is."""
    from rich.table import Table

    console = session.console
    importance = importance_of(found)
    assert importance is not None
    seen = importance.seen and f" on {importance.seen}"
    console.print(f"\nimportance by {importance.criterion}{seen}", markup=False)
    if importance.stability is not None:
        console.print(
            f"rank correlation between halves of the data: {importance.stability:.3f}", markup=False
        )
    elements = sorted(importance.elements.items(), key=lambda item: -(item[1] or 0.0))
    for heading, sums in (("layer", list(importance.layers.items())), ("element", elements)):
        if not sums:
            continue
        table = Table(box=None, pad_edge=False)
        table.add_column(heading)
        table.add_column("importance", justify="right")
        shown = sums if heading == "layer" else sums[:_SHOWN]
        for name, value in shown:
            table.add_row(name, "–" if value is None else f"{value:.3e}")
        console.print(table)
        if len(shown) < len(sums):
            console.print(f"… and {len(sums) - len(shown)} more", markup=False)
