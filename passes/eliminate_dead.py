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
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph without its dead blocks; ``origin`` stays that of the last slice.

        Raises:
            PipelineError: blocks are selected and not removed: slicing would forget the selection.
        """
        from irprune.slicing import require_unselected, slice_graph

        require_unselected(graph, self.name)
        small = slice_graph(graph)
        return small.replace(origin=graph.origin or small.origin, claim=graph.claim or small.claim)
