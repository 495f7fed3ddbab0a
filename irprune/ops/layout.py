"""Rows that change their layout, and gates of rows in either."""

from __future__ import annotations

from typing import Any

import torch
from e3nn import nn as enn
from torch import nn

from irprune.irreps import IrrepsType, Layout, flat_layout
from irprune.layers.gate import PlainGate
from irprune.layers.layout import ChangeLayout
from irprune.ops.activations import function_named, set_acts
from irprune.ops.base import Cost, Keep, LayoutRole, Site, register_op
from irprune.ops.frozen import Frozen
from irprune.ops.gate import build_acts, describe_acts
from irprune.specs.layout import layout_json, layout_of, to_ir_mul, to_mul_ir


@register_op
class Change(Frozen):
    """The same units, in the other flat layout."""

    name = "change-layout"
    row_wise = True
    targets = ("irprune.layers.layout.ChangeLayout",)
    why = "rows in another layout: prune before lay-out"

    def infer(self, site: Site) -> Any:
        m = site.module
        assert isinstance(m, ChangeLayout)
        return site.expect(0, m.irreps, m.source).in_layout(m.layout)

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, ChangeLayout)
        return {"irreps": module.irreps, "layout": module.layout.value}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return ChangeLayout(str(spec["irreps"]), flat_layout(spec["layout"]))

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, ChangeLayout)
        columns = torch.arange(args[0].shape[1]).unsqueeze(0)
        order = (to_ir_mul if m.layout is Layout.IR_MUL else to_mul_ir)(columns, m.segments)
        return args[0][:, order[0]]


@register_op
class LaidOutGate(Frozen):
    """Scalars → act, gated → gated · act(gate), of rows in either layout."""

    name = "plain-gate"
    row_wise = True
    targets = ("irprune.layers.gate.PlainGate",)
    why = "a gate in another layout: prune before lay-out"

    def infer(self, site: Site) -> Any:
        m = site.module
        assert isinstance(m, PlainGate)
        t = site.expect(0, m.irreps_in, m.layout)
        return IrrepsType.parse(m.irreps_out, t.space).in_layout(m.layout)

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY

    def laid_out(self, site: Site, layout: Layout) -> nn.Module:
        m = site.module
        assert isinstance(m, PlainGate)
        given = (m.irreps_in, m.irreps_out, m.parts, m.act_scalars, m.act_gates)
        return PlainGate(*given, layout)

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost(flops=5.0 * site.result.dim)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, PlainGate)
        acts = {}
        for name in ("act_scalars", "act_gates"):
            found = getattr(module, name)
            acts[name] = {"irreps": str(found.irreps_in), **describe_acts(found)}
        return {
            "irreps": [module.irreps_in, module.irreps_out],
            "parts": [list(p) for p in module.parts],
            **acts,
            **layout_json(module.layout),
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        acts: list[nn.Module] = []
        for name in ("act_scalars", "act_gates"):
            made = enn.Activation(
                spec[name]["irreps"], [function_named(a) for a in spec[name]["acts"]]
            )
            set_acts(made, build_acts(spec[name]))
            acts.append(made)
        first, second = (str(irreps) for irreps in spec["irreps"])
        return PlainGate(first, second, spec["parts"], acts[0], acts[1], layout_of(spec))

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        """One copy after the other."""
        m = site.module
        assert isinstance(m, PlainGate)
        t, x = IrrepsType.parse(m.irreps_in), args[0]
        if m.layout is Layout.IR_MUL:
            x = to_mul_ir(x, t.segments)
        ends = [sum(s.mul * s.dim for s in t.segments[:i]) for i in range(len(t.segments) + 1)]
        scalars, gates, gated = (
            [x[:, ends[i] : ends[i + 1]].split(t.segments[i].dim, dim=1) for i in part]
            for part in m.parts
        )
        flat = [c for copies in scalars for c in copies]
        opened = (
            m.act_gates(torch.cat([c for copies in gates for c in copies], dim=1)) if gates else x
        )
        out = [m.act_scalars(torch.cat(flat, dim=1))] if flat else []
        copies = [c for each in gated for c in each]
        out += [c * opened[:, i : i + 1] for i, c in enumerate(copies)]
        rows = torch.cat(out, dim=1)
        made = IrrepsType.parse(m.irreps_out).segments
        return to_ir_mul(rows, made) if m.layout is Layout.IR_MUL else rows
