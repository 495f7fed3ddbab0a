"""Frozen: the base of ops whose operands and results stay whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from irprune.errors import ExactnessError
from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.base import Keep, OpDef, Site

if TYPE_CHECKING:
    from irprune.blocks import Coupler

Needs = tuple[list[BoolMask | None], dict[str, BoolMask]]


def all_of(masks: Sequence[BoolMask | None]) -> list[BoolMask | None]:
    """Every unit of every operand is read."""
    return [None if m is None else np.ones_like(m) for m in masks]


class Frozen(OpDef):
    """Base of leaves whose operands and results stay whole."""

    why = "kept whole"

    def couple(self, site: Site, c: Coupler) -> None:
        for i in range(len(site.operands)):
            c.fixed(c.operand(i), self.why)
        c.fixed(c.out, self.why)

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
        return all_of(nz), {}

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        if any(m is not None and not m.all() for m in (*keep.operands, keep.out)):
            raise ExactnessError(f"{site.where} is kept whole ({self.why}), but the mask cuts it")
        return site.module
