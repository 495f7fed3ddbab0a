"""Sums of values over the same rows."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from irprune.errors import IrrepsTypeError, UnknownForm
from irprune.functional import sum_rows
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops.base import LayoutRole, OpDef, Other, Site, register_op, zeros
from irprune.ops.operands import all_scalar, anyhow, constant, join_space, only_constants

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@register_op
class Add(OpDef):
    """``a + b``, ``a - b``: equal types, or a constant added to scalars."""

    name = "add"
    row_wise = True
    targets = (
        operator.add, operator.iadd, operator.sub, torch.add, torch.sub,
        "method:add", "method:add_", "method:sub",
    )  # fmt: skip

    def infer(self, site: Site) -> Any:
        irreps = [t for t in site.types if isinstance(t, IrrepsType)]
        if not irreps:
            return constant(site)
        only_constants(site)
        if "alpha" in site.node.kwargs:
            raise UnknownForm(f"{site.where}: a sum with alpha is not known")
        if len(irreps) == 1:
            if not all_scalar(irreps[0]):
                raise IrrepsTypeError(
                    f"{site.where} adds a constant to {site.operands[0].name}, which is"
                    f" {irreps[0]}: only scalars (l = 0) allow that"
                )
            return irreps[0]
        a, b = irreps
        if {Layout.ROWS} < {a.layout, b.layout} and (a.is_flat or b.is_flat):
            raise UnknownForm(f"{site.where} adds {a} and {b}: one has no axis of features")
        if not a.same_units(b):
            raise IrrepsTypeError(
                f"{site.where} adds {site.operands[0].name}: {a} and {site.operands[1].name}: {b};"
                " both must carry the same irreps in the same order"
            )
        return a.in_space(join_space(site, a, b))

    def layout_role(self, site: Site) -> LayoutRole:
        return anyhow([t for t in site.types if isinstance(t, IrrepsType)])

    def couple(self, site: Site, c: Coupler) -> None:
        for i, t in enumerate(site.types):
            if isinstance(t, IrrepsType):
                c.same(c.operand(i), c.out)
            elif isinstance(t, Other) and t.kind == "param" and t.shape and math.prod(t.shape) > 1:
                c.fixed(c.out, "added to a parameter of fixed size")

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        masks = [m for m in nz if m is not None]
        if not masks:
            return None
        return masks[0] | masks[1] if len(masks) == 2 else np.ones_like(masks[0])


@register_op
class SumRows(OpDef):
    """The sum of several scalars per row."""

    name = "sum-rows"
    row_wise = True
    targets = (sum_rows,)

    def infer(self, site: Site) -> Any:
        return site.types[0]

    def layout_role(self, site: Site) -> LayoutRole:
        return anyhow([site.irreps(i) for i in range(len(site.types))])

    def couple(self, site: Site, c: Coupler) -> None:
        for i in range(len(site.types)):
            c.same(c.operand(i), c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        out = zeros(site.result.n_units)
        for m in nz:
            out = out | m if m is not None else out
        return out
