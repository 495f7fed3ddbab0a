"""The polynomial that a symmetric contraction is."""

from __future__ import annotations

from typing import Any

from torch import nn

from irprune.irreps import IrrepsType
from irprune.layers.polynomial import ElementPolynomial
from irprune.ops.base import Cost, Keep, Site, register_op
from irprune.ops.frozen import Frozen
from irprune.polyspec import PolySpec


@register_op
class Polynomial(Frozen):
    """Products of the components of each channel, weighted by element: one PolySpec."""

    name = "element-polynomial"
    targets = ("irprune.layers.polynomial.ElementPolynomial",)
    why = "lowered contraction: prune before lower-contraction"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, ElementPolynomial)
        spec = site.module.spec
        t = site.expect(0, spec.irreps_in)
        return IrrepsType.parse(spec.irreps_out, t.space)

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
