"""Tables by element, and linear maps whose weights depend on the element."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from irprune.irreps import IrrepsType, Layout, Space
from irprune.layers.elements import ElementLinear, ElementTable
from irprune.ops.base import Cost, Keep, LayoutRole, Other, Site, kernel_role, register_op
from irprune.ops.frozen import Frozen
from irprune.specs.layout import layout_json, layout_of, to_ir_mul, to_mul_ir


@register_op
class Table(Frozen):
    """A row of a table for each atom, by its element."""

    name = "element-table"
    targets = ("irprune.layers.elements.ElementTable",)
    why = "a table by element: prune before fold-onehot"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, ElementTable)
        rows = site.types[0].rows if isinstance(site.types[0], Other) else None
        space = Space(rows or "node")
        if site.module.rows:
            return IrrepsType.parse(site.module.irreps, space, Layout.ROWS)
        return IrrepsType.parse(site.module.irreps, space).in_layout(site.module.layout)

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY

    def laid_out(self, site: Site, layout: Layout) -> nn.Module:
        """A table with its columns in the order of the layout."""
        m = site.module
        assert isinstance(m, ElementTable)
        made = ElementTable(m.table.shape[0], m.irreps, m.rows, layout)
        if layout is m.layout:
            table = m.table.detach()
        else:
            change = to_ir_mul if layout is Layout.IR_MUL else to_mul_ir
            table = change(m.table.detach(), site.result.segments)
        made.table = nn.Parameter(table.clone(), m.table.requires_grad)
        return made

    def cost(self, site: Site, keep: Keep) -> Cost:
        assert isinstance(site.module, ElementTable)
        return Cost(site.module.table.numel())

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, ElementTable)
        elements = int(module.table.shape[0])
        how = layout_json(module.layout)
        return {"elements": elements, "irreps": module.irreps, "rows": module.rows, **how}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        elements, rows = int(spec["elements"]), bool(spec["rows"])
        return ElementTable(elements, spec["irreps"], rows, layout_of(spec))


@register_op
class LinearByElement(Frozen):
    """Copies of each irrep mixed with weights chosen by the element of the atom."""

    name = "element-linear"
    targets = ("irprune.layers.elements.ElementLinear",)
    why = "a linear map by element: prune before fold-onehot"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, ElementLinear)
        layout = site.module.layout
        t = site.expect(0, site.module.irreps_in, layout)
        return IrrepsType.parse(site.module.irreps_out, t.space).in_layout(layout)

    def layout_role(self, site: Site) -> LayoutRole:
        assert isinstance(site.module, ElementLinear)
        return kernel_role(site, IrrepsType.parse(site.module.irreps_in))

    def laid_out(self, site: Site, layout: Layout) -> nn.Module:
        m = site.module
        assert isinstance(m, ElementLinear)
        elements = m.weights[0].shape[0]
        made = ElementLinear(elements, m.irreps_in, m.irreps_out, m.paths, layout)
        made.weights = m.weights
        return made

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
            **layout_json(module.layout),
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        paths = tuple((int(i), int(o)) for i, o in spec["paths"])
        irreps_in, irreps_out = spec["irreps"]
        elements = int(spec["elements"])
        return ElementLinear(elements, irreps_in, irreps_out, paths, layout_of(spec))

    def capturable(self, module: nn.Module) -> nn.Module:
        from irprune.layers.capturable import CapturableElementLinear

        assert isinstance(module, ElementLinear)
        return CapturableElementLinear(module)

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, ElementLinear)
        x, species = args
        if m.layout is Layout.IR_MUL:
            x = to_mul_ir(x, m.inputs)
        parts = x.split([s.mul * s.dim for s in m.inputs], dim=1)
        out = [x.new_zeros(x.shape[0], s.mul, s.dim) for s in m.outputs]
        for (i, o), w in zip(m.paths, m.weights, strict=True):
            left = parts[i].reshape(-1, m.inputs[i].mul, m.inputs[i].dim)
            out[o] = out[o] + torch.einsum("num,nuv->nvm", left, w[species])
        rows = torch.cat([part.flatten(1) for part in out], dim=1)
        return to_ir_mul(rows, m.outputs) if m.layout is Layout.IR_MUL else rows
