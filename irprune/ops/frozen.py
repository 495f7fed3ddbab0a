"""Bases of ops that hand no unit on: Whole reads and makes everything, Frozen keeps it all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from irprune.errors import ExactnessError
from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.base import Keep, Needs, OpDef, Site

if TYPE_CHECKING:
    from irprune.blocks import Coupler


class Whole(OpDef):
    """Base of ops whose every result may be non-zero and reads every unit of every operand.

    Units of the result relate to none of the operands: each can go on its own.
    """

    def couple(self, site: Site, c: Coupler) -> None:
        return None

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return np.ones(site.out.n_units, bool) if isinstance(site.out, IrrepsType) else None

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        return [None if m is None else np.ones_like(m) for m in nz], {}


class Frozen(Whole):
    """Base of leaves whose operands and results stay whole."""

    why = "kept whole"

    def couple(self, site: Site, c: Coupler) -> None:
        for i in range(len(site.operands)):
            c.fixed(c.operand(i), self.why)
        c.fixed(c.out, self.why)

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        if any(m is not None and not m.all() for m in (*keep.operands, keep.out)):
            raise ExactnessError(f"{site.where} is kept whole ({self.why}), but the mask cuts it")
        return site.module
