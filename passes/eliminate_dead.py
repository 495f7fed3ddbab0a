"""eliminate-dead: blocks that are provably zero, or that nobody reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class EliminateDead(Pass):
    """Removes dead blocks from a graph as it is; no output changes."""

    name: ClassVar[str] = "eliminate-dead"
    summary: ClassVar[str] = "remove blocks that are provably zero or read by nobody"
    trait: ClassVar[str] = "exact-with-fold"

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph without its dead blocks; ``origin`` stays that of the last slice."""
        from irprune.slicing import slice_graph

        small = slice_graph(graph.replace(keep=None))
        return small.replace(origin=graph.origin or small.origin, facts=graph.facts)
