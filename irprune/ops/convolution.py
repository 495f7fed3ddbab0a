"""Edge lists, pairs of edges, and the fused convolution that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from irprune.errors import IrrepsTypeError
from irprune.functional import edge_lists, edge_pairs, edges_of_pairs
from irprune.irreps import IrrepsType, Layout, Segment, Space
from irprune.layers.convolution import Convolution
from irprune.ops.base import Cost, Keep, LayoutRole, Other, Site, kernel_role, register_op
from irprune.ops.frozen import Frozen
from irprune.ops.structure import Unrelated
from irprune.specs.path import PathSpec

if TYPE_CHECKING:
    from irprune.blocks import Coupler


def flat(segments: tuple[Segment, ...], space: Space, layout: Layout) -> IrrepsType:
    """Segments as a flat type."""
    return IrrepsType(segments, space=space).in_layout(layout)


@register_op
class EdgeLists(Unrelated):
    """Senders, receivers and rows of weights → the edges in the orders that kernels walk."""

    name = "edge-lists"
    targets = (edge_lists,)

    def infer(self, site: Site) -> Any:
        return Other("edge_lists")

    def takes_components(self, site: Site) -> tuple[int, ...]:
        return ()  # of the nodes, how many there are


@register_op
class EdgePairs(Unrelated):
    """Senders, receivers, edge vectors → (edges that stand for their pair, pair of each edge)."""

    name = "edge-pairs"
    targets = (edge_pairs,)

    def infer(self, site: Site) -> Any:
        return (Other("index", rows="pair"), Other("index", rows="edge"))

    def couple(self, site: Site, c: Coupler) -> None:
        for i in range(len(site.operands)):
            c.fixed(c.operand(i), "compared edge by edge")


@register_op
class EdgesOfPairs(Unrelated):
    """The edge index of the edges that stand for their pair."""

    name = "edges-of-pairs"
    targets = (edges_of_pairs,)

    def infer(self, site: Site) -> Any:
        return Other("edge_index", rows="pair")


@register_op
class FusedConvolution(Frozen):
    """Features at senders ⊗ harmonics, weighted, summed at receivers: one op, one PathSpec."""

    name = "convolution"
    targets = ("irprune.layers.convolution.Convolution",)
    why = "fused convolution: prune before fuse-conv"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, Convolution)
        spec = site.module.spec
        x = site.expect(0, "+".join(map(str, spec.in1)), spec.layout)
        site.expect(1, "+".join(map(str, spec.in2)))
        site.expect(2, f"{spec.n_weights}x0e")
        if site.types[3] != Other("edge_lists"):
            raise IrrepsTypeError(
                f"{site.where} needs edge lists as operand 3, but {site.operands[3].name} is"
                f" {site.types[3]}"
            )
        return flat(spec.out, x.space, spec.layout)

    def layout_role(self, site: Site) -> LayoutRole:
        assert isinstance(site.module, Convolution)
        return kernel_role(site, IrrepsType(site.module.spec.in1))

    def laid_out(self, site: Site, layout: Layout) -> nn.Module:
        assert isinstance(site.module, Convolution)
        return Convolution(site.module.spec.in_layout(layout), site.module.backend)

    def cost(self, site: Site, keep: Keep) -> Cost:
        assert isinstance(site.module, Convolution)
        return Cost(flops=site.module.spec.flops(), space=Space.EDGE)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, Convolution)
        return module.spec.to_json()

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return Convolution(PathSpec.from_json(spec))

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        from irprune.backends import convolve

        assert isinstance(site.module, Convolution)
        return convolve(site.module.spec, *args)
