"""Functions of edges that e3nn offers beside its modules: harmonics and radial bases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from irprune import functional
from irprune.errors import UnknownForm
from irprune.irreps import IrrepsType, Layout
from irprune.ops.base import Cost, Keep, Site, register_op
from irprune.ops.frozen import Frozen, Whole


@register_op
class Harmonics(Whole):
    """Spherical harmonics as a function: one unit per order, each can go on its own."""

    name = "harmonics"
    targets = (functional.harmonics,)

    def _made(self, site: Site) -> Any:
        from e3nn import o3

        orders, normalize, normalization = site.node.args[1:4]
        return o3.SphericalHarmonics(orders, normalize, normalization)

    def infer(self, site: Site) -> Any:
        t = site.irreps(0)
        if t.n_units != 1 or t.dim != 3:
            raise UnknownForm(f"{site.where} takes harmonics of {t}; known is one vector per row")
        irreps = self._made(site).irreps_out
        return replace(
            IrrepsType.of(((mul, ir.l, ir.p) for mul, ir in irreps)), space=t.space, layout=t.layout
        )

    def slice_call(
        self, site: Site, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kept = site.result.kept(keep.result)
        return (args[0], kept.irreps, *args[2:]), kwargs

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost(flops=4.0 * float(site.result.components(keep.result).sum()))


@register_op
class RadialBasis(Frozen):
    """``e3nn.math.soft_one_hot_linspace``: a distance → scalars; all of them stay."""

    name = "radial-basis"
    targets = (functional.soft_one_hot_linspace,)
    why = "radial basis"

    def infer(self, site: Site) -> Any:
        t, node = site.irreps(0), site.node
        number = node.kwargs.get("number", node.args[3] if len(node.args) > 3 else None)
        if (
            t.n_units != 1
            or t.dim != 1
            or t.layout is not Layout.ROWS
            or not isinstance(number, int)
        ):
            raise UnknownForm(f"{site.where} takes a radial basis of {t}; known is one distance")
        return IrrepsType.scalars(number, t.space)
