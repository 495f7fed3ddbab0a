"""Tables by element, and linear maps whose weights depend on the element."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from irprune.irreps import IrrepsType, Layout, Space
from irprune.layers.elements import ElementLinear, ElementTable
from irprune.ops.base import Cost, Keep, Other, Site, register_op
from irprune.ops.frozen import Frozen


@register_op
class Table(Frozen):
    """A row of a table for each atom, by its element."""

    name = "element-table"
    targets = ("irprune.layers.elements.ElementTable",)
    why = "a table by element: prune before fold-onehot"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, ElementTable)
        rows = site.types[0].rows if isinstance(site.types[0], Other) else None
        layout = Layout.ROWS if site.module.rows else Layout.MUL_IR
        return IrrepsType.parse(site.module.irreps, Space(rows or "node"), layout)

    def cost(self, site: Site, keep: Keep) -> Cost:
        assert isinstance(site.module, ElementTable)
        return Cost(site.module.table.numel())

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, ElementTable)
        elements = int(module.table.shape[0])
        return {"elements": elements, "irreps": module.irreps, "rows": module.rows}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return ElementTable(int(spec["elements"]), spec["irreps"], bool(spec["rows"]))


@register_op
class LinearByElement(Frozen):
    """Copies of each irrep mixed with weights chosen by the element of the atom."""

    name = "element-linear"
    targets = ("irprune.layers.elements.ElementLinear",)
    why = "a linear map by element: prune before fold-onehot"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, ElementLinear)
        t = site.expect(0, site.module.irreps_in)
        return IrrepsType.parse(site.module.irreps_out, t.space)

    def cost(self, site: Site, keep: Keep) -> Cost:
        m = site.module
        assert isinstance(m, ElementLinear)
        flops = sum(2.0 * m.inputs[i].dim * w[0].numel()
                    for (i, _), w in zip(m.paths, m.weights, strict=True))  # fmt: skip
        return Cost(sum(w.numel() for w in m.weights), flops, flops)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, ElementLinear)
        return {
            "elements": int(module.weights[0].shape[0]),
            "irreps": [module.irreps_in, module.irreps_out],
            "paths": [list(p) for p in module.paths],
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        paths = tuple((int(i), int(o)) for i, o in spec["paths"])
        irreps_in, irreps_out = spec["irreps"]
        return ElementLinear(int(spec["elements"]), irreps_in, irreps_out, paths)

    def capturable(self, module: nn.Module) -> nn.Module:
        from irprune.layers.capturable import CapturableElementLinear

        assert isinstance(module, ElementLinear)
        return CapturableElementLinear(module)

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, ElementLinear)
        x, species = args
        parts = x.split([s.mul * s.dim for s in m.inputs], dim=1)
        out = [x.new_zeros(x.shape[0], s.mul, s.dim) for s in m.outputs]
        for (i, o), w in zip(m.paths, m.weights, strict=True):
            left = parts[i].reshape(-1, m.inputs[i].mul, m.inputs[i].dim)
            out[o] = out[o] + torch.einsum("num,nuv->nvm", left, w[species])
        return torch.cat([part.flatten(1) for part in out], dim=1)
