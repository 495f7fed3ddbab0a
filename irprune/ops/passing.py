"""The base of ops that hand units on: blocks move, none is mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.base import Cost, Keep, Needs, OpDef, Site

if TYPE_CHECKING:
    from irprune.blocks import Coupler


class Passing(OpDef):
    """Base of ops that hand a run of units of operand 0 on as their result."""

    def units(self, site: Site) -> slice:
        return slice(0, site.irreps(0).n_units)

    def couple(self, site: Site, c: Coupler) -> None:
        if isinstance(site.out, IrrepsType):
            c.same(c.operand(0)[self.units(site)], c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        if not isinstance(site.out, IrrepsType) or nz[0] is None:
            return None
        return nz[0][self.units(site)]

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        out: list[BoolMask | None] = [None if m is None else np.zeros_like(m) for m in nz]
        if need is not None and out and out[0] is not None:
            out[0][self.units(site)] = need
        return out, {}

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()
