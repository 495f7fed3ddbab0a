"""Columns that belong to the heads of a model with several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from irprune.functional import mask_head, take_head
from irprune.irreps import BoolMask, IrrepsType, Layout, Segment
from irprune.ops.base import Needs, OpDef, Site, register_op

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@register_op
class TakeHead(OpDef):
    """One column per row, by head: every head stays."""

    name = "take-head"
    targets = (take_head,)

    def infer(self, site: Site) -> Any:
        t = site.irreps(0)
        return IrrepsType((Segment(1, 0, 1),), Layout.ROWS, t.space)

    def couple(self, site: Site, c: Coupler) -> None:
        c.fixed(c.operand(0), "one column per head")

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        assert nz[0] is not None
        return np.array([bool(nz[0].any())])

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        assert need is not None and nz[0] is not None
        return [np.full(len(nz[0]), bool(need.any())), None], {}


@register_op
class MaskHead(OpDef):
    """Columns of other heads zeroed; each head keeps the same columns, so that heads stay equal."""

    name = "mask-head"
    targets = (mask_head,)

    def infer(self, site: Site) -> Any:
        return site.irreps(0)

    def couple(self, site: Site, c: Coupler) -> None:
        c.same(c.operand(0), c.out)
        heads = int(site.node.args[2])  # type: ignore[arg-type]
        rows = c.out.reshape(heads, -1)
        for h in range(1, heads):
            c.same(rows[0], rows[h])
