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
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph without its dead blocks; ``origin`` stays that of the last slice."""
        import numpy as np

        from irprune.dead import eliminate_dead
        from irprune.slicing import slice_graph

        if eliminate_dead(graph, np.ones(graph.blocks.n_classes, bool)).all():
            return graph

        small = slice_graph(graph)
        return small.replace(origin=graph.origin or small.origin, claim=graph.claim or small.claim)
