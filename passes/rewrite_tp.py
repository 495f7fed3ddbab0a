"""rewrite-tp: tensor products without the paths that contribute nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class RewriteTp(Pass):
    """Drops tensor-product paths whose weights are exactly zero, and everything dead with them.

    A path is zero when its internal weights are, or when the columns of the network that makes its
    weights are. Slicing leaves such paths where a checkpoint was trained with sparsity or where an
    earlier export padded a structure with zeros.
    """

    name: ClassVar[str] = "rewrite-tp"
    summary: ClassVar[str] = "drop tensor-product paths whose weights are zero"
    trait: ClassVar[str] = "exact-with-fold"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The rewritten graph; the same graph if no path is zero."""
        import numpy as np

        from irprune.slicing import slice_graph

        space = graph.blocks
        removed = np.zeros(space.n_classes, bool)
        for name, site in graph.sites.items():
            for k in _zero_paths(site, graph):
                removed[space.class_of[space.ids_of(name, "path")[k]]] = True
        if not (removed & ~space.fixed_classes).any():
            return graph
        small = slice_graph(graph.replace(keep=space.without(removed)))
        return small.replace(origin=graph.origin or small.origin, claim=graph.claim or small.claim)


def _zero_paths(site: Any, graph: EquivariantGraph) -> list[int]:
    """Numbers of the paths of a tensor-product node whose weights are all zero."""
    from e3nn import nn as enn
    from e3nn import o3

    from irprune.ops.radial import layers_of
    from irprune.ops.tensor_product import paths_of

    if not isinstance(site.module, o3.TensorProduct) or isinstance(site.module, o3.TensorSquare):
        return []
    if site.module.internal_weights and site.module.weight_numel:
        zero = site.module.weight.detach() == 0
    elif len(site.operands) == 3:
        source = graph.sites[site.operands[2].name]
        if not isinstance(source.module, enn.FullyConnectedNet):
            return []
        last = layers_of(source.module)[-1]
        if last.act is not None:
            return []
        zero = (last.weight.detach() == 0).all(dim=0)
    else:
        return []
    return [
        k for k, p in enumerate(paths_of(site.module)) if p.weighted and bool(zero[p.weights].all())
    ]
