"""What every pass of a pipeline changed, as lines for a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from irprune.passbase import Pass

if TYPE_CHECKING:
    from irprune.difference import GraphDiff
    from irprune.graph import EquivariantGraph

MOST = 60
"""Lines that are kept of one pass."""


@dataclass
class ChangeLog:
    """An observer: for each pass a summary, and a line for each node that it changed.

    A pass that makes no new graph is looked at for scores and masks only, which costs nothing.
    """

    found: list[dict[str, Any]] = field(default_factory=list)
    """For each pass ``summary`` and ``lines``."""

    def start(self, graph: Any, passes: Sequence[Pass]) -> None:
        """Forgets an earlier run."""
        self.found.clear()

    def before(self, p: Pass, graph: Any) -> None:
        """Nothing: what matters is the difference."""

    def after(self, p: Pass, before: Any, after: Any) -> None:
        said, lines = _facts(before, after), []
        if before.gm is not after.gm:
            from irprune.difference import diff

            compared = diff(before, after)
            said += _counts(compared)
            lines = _lines(compared)
        more = [f"… and {len(lines) - MOST} more"] if len(lines) > MOST else []
        self.found.append({"summary": "; ".join(said) or "no change", "lines": lines[:MOST] + more})


def _facts(before: EquivariantGraph, after: EquivariantGraph) -> list[str]:
    said = []
    if after.scores is not None and after.scores is not before.scores:
        said.append(f"scored by {after.scores.criterion}")
    if after.keep is not None and after.keep is not before.keep:
        groups = [c for a in after.axes() for c in a.groups]
        gone = len(groups) - int(after.keep[groups].sum())
        said.append(f"{gone:,} of {len(groups):,} coupled groups selected to go")
    return said


def _counts(found: GraphDiff) -> list[str]:
    parts = (
        (len(found.removed), "removed"),
        (len(found.added), "added"),
        (len(found.changed), "changed"),
    )
    said = [f"{n} node{'' if n == 1 else 's'} {what}" for n, what in parts if n]
    return said or ["a new graph with equal nodes"]


def _lines(found: GraphDiff) -> list[str]:
    from irprune.difference.result import line

    out = [
        f"{c.where} {c.irrep}: {c.before} → {c.after}" for c in found.layers if c.before != c.after
    ]
    out += [f"- {line(n)}" for n in found.removed]
    out += [f"+ {line(n)}" for n in found.added]
    out += [f"~ %{c.before.name}: {'; '.join(c.describe())}" for c in found.changed]
    return out
