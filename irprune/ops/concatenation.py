"""Values over the same rows put beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from irprune.errors import IrrepsTypeError, UnknownForm
from irprune.irreps import BoolMask, IrrepsType, Layout, Segment, Space
from irprune.ops.base import Cost, Keep, LayoutRole, Needs, OpDef, Site, register_op

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@register_op
class Concatenate(OpDef):
    """``torch.cat`` along the last axis."""

    name = "concat"
    row_wise = True
    targets = (torch.cat, torch.concat, torch.concatenate)

    def infer(self, site: Site) -> Any:
        dim = site.node.kwargs.get("dim", site.node.args[1] if len(site.node.args) > 1 else 0)
        parts = [site.irreps(i) for i in range(len(site.types))]
        mixed = any(p.layout is Layout.IR_MUL for p in parts)
        layout = Layout.IR_MUL if mixed else Layout.MUL_IR
        if dim not in (-1, 1):
            raise UnknownForm(f"{site.where} concatenates along dim={dim}; known is the last")
        if any(p.layout is not layout and not (p.is_flat and p.orderless) for p in parts):
            given = ", ".join(map(str, parts))
            raise UnknownForm(f"{site.where} concatenates {given}; known is one flat layout")
        segments: tuple[Segment, ...] = sum((p.segments for p in parts), ())
        spaces = {p.space for p in parts} - {Space.ANY}
        if len(spaces) > 1:
            names = ", ".join(f"{o.name}: {p}" for o, p in zip(site.operands, parts, strict=True))
            raise IrrepsTypeError(f"{site.where} concatenates different rows: {names}")
        return IrrepsType(segments, layout, spaces.pop() if spaces else Space.ANY)

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY

    def couple(self, site: Site, c: Coupler) -> None:
        start = 0
        for i in range(len(site.types)):
            ids = c.operand(i)
            c.same(ids, c.out[start : start + len(ids)])
            start += len(ids)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return np.concatenate([m for m in nz if m is not None])

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        assert need is not None
        sizes = [len(m) for m in nz if m is not None]
        return list(np.split(need, np.cumsum(sizes)[:-1])), {}

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()
