"""Functions of edges that e3nn offers beside its modules: harmonics and radial bases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from irprune import functional
from irprune.errors import UnknownForm
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops.base import Cost, Keep, OpDef, Site, register_op
from irprune.ops.frozen import all_of

if TYPE_CHECKING:
    from irprune.blocks import Coupler

Needs = tuple[list[BoolMask | None], dict[str, BoolMask]]


@register_op
class Harmonics(OpDef):
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

    def couple(self, site: Site, c: Coupler) -> None:
        return None

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return np.ones(site.result.n_units, bool)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        return all_of(nz), {}

    def slice_call(
        self, site: Site, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kept = site.result.kept(keep.result)
        return (args[0], kept.irreps, *args[2:]), kwargs

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost(flops=4.0 * float(site.result.components(keep.result).sum()))


@register_op
class RadialBasis(OpDef):
    """``e3nn.math.soft_one_hot_linspace``: a distance → scalars; all of them stay."""

    name = "radial-basis"
    targets = (functional.soft_one_hot_linspace,)

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

    def couple(self, site: Site, c: Coupler) -> None:
        c.fixed(c.out, "radial basis")
        c.fixed(c.operand(0), "radial basis")

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return np.ones(site.result.n_units, bool)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        return all_of(nz), {}
