"""The polynomial that a symmetric contraction is."""

from __future__ import annotations

from typing import Any

from torch import nn

from irprune.irreps import IrrepsType, Layout
from irprune.layers.polynomial import ElementPolynomial
from irprune.ops.base import Cost, Keep, LayoutRole, Site, kernel_role, register_op
from irprune.ops.frozen import Frozen
from irprune.specs.poly import PolySpec


@register_op
class Polynomial(Frozen):
    """Products of the components of each channel, weighted by element: one PolySpec."""

    name = "element-polynomial"
    targets = ("irprune.layers.polynomial.ElementPolynomial",)
    why = "lowered contraction: prune before lower-contraction"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, ElementPolynomial)
        spec = site.module.spec
        t = site.expect(0, spec.irreps_in, spec.layout)
        return IrrepsType.parse(spec.irreps_out, t.space).in_layout(spec.layout)

    def layout_role(self, site: Site) -> LayoutRole:
        assert isinstance(site.module, ElementPolynomial)
        return kernel_role(site, IrrepsType.parse(site.module.spec.irreps_in))

    def laid_out(self, site: Site, layout: Layout) -> nn.Module:
        m = site.module
        assert isinstance(m, ElementPolynomial)
        made = ElementPolynomial(m.spec.in_layout(layout), m.weight.shape[0], m.backend)
        made.weight = m.weight
        return made

    def cost(self, site: Site, keep: Keep) -> Cost:
        assert isinstance(site.module, ElementPolynomial)
        return Cost(site.module.weight.numel(), site.module.spec.flops())

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, ElementPolynomial)
        return {"polynomial": module.spec.to_json(), "elements": int(module.weight.shape[0])}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return ElementPolynomial(PolySpec.from_json(spec["polynomial"]), int(spec["elements"]))

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, ElementPolynomial)
        return m.spec.evaluate(args[0], m.weight[args[1]])
