"""Tables by distance."""

from __future__ import annotations

from typing import Any

from torch import nn

from irprune.errors import IrrepsTypeError
from irprune.irreps import IrrepsType
from irprune.layers.table import RadialTable
from irprune.ops.base import Cost, Keep, Other, Site, register_op
from irprune.ops.frozen import Frozen
from irprune.specs.table import TableSpec


@register_op
class Table(Frozen):
    """Lengths → rows of weights, by piecewise polynomials."""

    name = "radial-table"
    targets = ("irprune.layers.table.RadialTable",)
    why = "a tabulated network: prune before tabulate-radial"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, RadialTable)
        t = site.irreps(0)
        if t.dim != 1:
            raise IrrepsTypeError(
                f"{site.where} expects one length per row as operand 0, but"
                f" {site.operands[0].name} gives {t}"
            )
        wanted = [Other("index", rows="node"), Other("edge_index")]
        if site.module.kinds is not None and [
            t.kind if isinstance(t, Other) else None for t in site.types[1:]
        ] != [w.kind for w in wanted]:
            raise IrrepsTypeError(
                f"{site.where} expects the species of atoms and an edge index beside the lengths, got"
                f" {', '.join(map(str, site.types[1:])) or 'neither'}"
            )
        return IrrepsType.scalars(site.module.spec.width, t.space)

    def cost(self, site: Site, keep: Keep) -> Cost:
        assert isinstance(site.module, RadialTable)
        return Cost(site.module.coefficients.numel(), site.module.spec.flops())

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, RadialTable)
        elements = None if module.kinds is None else int(module.kinds.shape[0])
        return {"table": module.spec.to_json(), "elements": elements}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        elements = spec["elements"]
        return RadialTable(
            TableSpec.from_json(spec["table"]), None if elements is None else int(elements)
        )

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, RadialTable)
        length, *ends = args
        which = None if m.kinds is None else m.kinds[ends[0][ends[1][0]], ends[0][ends[1][1]]]
        return m.spec.evaluate(length.reshape(-1), m.coefficients, which)
