"""slice: the small graph that equals the masked one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Slice(Pass):
    """Removes the blocks that select did not keep, and those that are dead without them."""

    name: ClassVar[str] = "slice"
    summary: ClassVar[str] = "cut every weight to the kept blocks, normalisations folded in"
    trait: ClassVar[str] = "exact-with-fold"
    requires: ClassVar[tuple[str, ...]] = ("masks",)
    provides: ClassVar[tuple[str, ...]] = ("sliced",)
    invalidates: ClassVar[tuple[str, ...]] = ("masks", "scores")

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The sliced graph; ``origin`` is the graph with its masks."""
        from irprune.slicing import slice_graph

        return slice_graph(graph)
