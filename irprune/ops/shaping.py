"""Axes of length one, put on and taken off: [rows] and [rows, 1]."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from irprune.errors import UnknownForm
from irprune.irreps import IrrepsType, Layout
from irprune.ops.base import Other, Site, register_op
from irprune.ops.passing import Passing


@register_op
class Unsqueeze(Passing):
    """[rows] → [rows, 1]."""

    name = "unsqueeze"
    row_wise = True
    targets = (torch.unsqueeze, "method:unsqueeze")

    def infer(self, site: Site) -> Any:
        t = site.types[0]
        if isinstance(t, IrrepsType) and t.layout is Layout.ROWS and site.node.args[1] in (-1, 1):
            return replace(t, layout=Layout.MUL_IR)
        if isinstance(t, Other) and t.kind == "index" and site.node.args[1] in (-1, 1):
            return Other("index-column", rows=t.rows)
        raise UnknownForm(f"{site.where} unsqueezes {site.operands[0].name}: {t}")


@register_op
class ViewColumn(Passing):
    """``x.view(-1, 1)`` of one scalar per row: [rows] → [rows, 1]."""

    name = "view-column"
    row_wise = True
    targets = ("method:view", "method:reshape", torch.reshape)

    def infer(self, site: Site) -> Any:
        t, shape = site.types[0], site.node.args[1:]
        if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
            shape = tuple(shape[0])
        if isinstance(t, IrrepsType) and t.n_units == 1 and t.dim == 1:
            if shape == (-1, 1):
                return replace(t, layout=Layout.MUL_IR)
            if shape == (-1,):
                return replace(t, layout=Layout.ROWS)
        if isinstance(t, Other) and t.kind == "index" and shape == (-1, 1):
            return Other("index-column", rows=t.rows)
        raise UnknownForm(
            f"{site.where} reshapes {site.operands[0].name}: {t} to {shape}; known is one number per"
            " row to (-1, 1) or (-1,)"
        )


@register_op
class Squeeze(Passing):
    """[rows, 1] → [rows]."""

    name = "squeeze"
    row_wise = True
    targets = (torch.squeeze, "method:squeeze")

    def infer(self, site: Site) -> Any:
        t = site.irreps(0)
        if t.layout is Layout.MUL_IR and t.dim == 1 and site.node.args[1:] in ((-1,), (1,)):
            return replace(t, layout=Layout.ROWS)
        raise UnknownForm(
            f"{site.where} squeezes {site.operands[0].name}: {t}; known is squeeze(-1) of one scalar"
        )
