"""Masks over rows: comparisons make them, and ``torch.where`` chooses by them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.base import OpDef, Other, Site, register_op
from irprune.ops.structure import Unrelated

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@register_op
class Compare(Unrelated):
    """``a < b`` and its kin: a boolean mask."""

    name = "compare"
    targets = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)

    def infer(self, site: Site) -> Any:
        return Other("mask", value=site.types[0])

    def couple(self, site: Site, c: Coupler) -> None:
        for i in range(len(site.operands)):
            c.fixed(c.operand(i), "compared with a threshold")

    def takes_components(self, site: Site) -> tuple[int, ...]:
        return tuple(range(len(site.operands)))


@register_op
class Where(OpDef):
    """``torch.where(mask, constant, x)`` on one scalar per row."""

    name = "where"
    targets = (torch.where,)

    def infer(self, site: Site) -> Any:
        return next((t for t in site.types if isinstance(t, IrrepsType)), Other("const"))

    def couple(self, site: Site, c: Coupler) -> None:
        for i in range(len(site.types)):
            c.fixed(c.operand(i), "chosen by a mask")
        c.fixed(c.out, "chosen by a mask")

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return next((np.ones_like(m) for m in nz if m is not None), None)
