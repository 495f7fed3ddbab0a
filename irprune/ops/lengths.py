"""Lengths of vectors, and of other single irreps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from irprune.errors import UnknownForm
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops.base import OpDef, Site, register_op

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@register_op
class Norm(OpDef):
    """|x| of a single irrep per row: a scalar."""

    name = "norm"
    row_wise = True
    targets = (torch.linalg.norm, torch.linalg.vector_norm, torch.norm, "method:norm")

    def infer(self, site: Site) -> Any:
        t = site.irreps(0)
        kw = site.node.kwargs
        dim = kw.get("dim", site.node.args[1] if len(site.node.args) > 1 else None)
        if t.n_units != 1 or dim not in (-1, 1):
            raise UnknownForm(
                f"{site.where} takes a norm of {site.operands[0].name}: {t} over dim={dim}; only"
                " the norm of a single irrep per row over its components is known"
            )
        scalar = IrrepsType.scalars(1, t.space)
        if kw.get("keepdim", False):
            return scalar
        return IrrepsType(scalar.segments, Layout.ROWS, t.space)

    def couple(self, site: Site, c: Coupler) -> None:
        return None

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return nz[0]
