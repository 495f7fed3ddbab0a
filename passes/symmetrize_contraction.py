"""symmetrize-contraction: as many paths as there are polynomials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class SymmetrizeContraction(Pass):
    """Rebuilds symmetric contractions over a basis without redundancy, weights projected exactly."""

    name: ClassVar[str] = "symmetrize-contraction"
    summary: ClassVar[str] = "symmetric contractions over a basis without redundant paths"
    trait: ClassVar[str] = "exact-with-fold"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)
    by_node: ClassVar[bool] = True

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with reduced contractions; ``context.results`` says which could not be."""
        from irprune.errors import ExactnessError
        from irprune.ops.base import op_of_node
        from irprune.rewriting import Rewriting

        edit, stayed = Rewriting(graph, context), {}
        for name, site in graph.sites.items():
            op = op_of_node(site.node, site.module) if site.module is not None else None
            if op is None:
                continue
            try:
                small = op.symmetrized(site)
            except ExactnessError as error:
                stayed[name] = str(error)
                continue
            if small is None or _size(small) >= _size(site.module):
                continue
            edit.exchange(str(site.node.target), small)
        context.results[self.name] = stayed
        return edit.done()


def _size(module: object) -> int:
    return sum(p.numel() for p in module.parameters())  # type: ignore[attr-defined]
