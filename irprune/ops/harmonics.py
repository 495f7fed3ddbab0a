"""``e3nn.o3.SphericalHarmonics``: edge attributes, one unit per order."""

from __future__ import annotations

from typing import Any

from e3nn import o3
from torch import nn

from irprune.ops.base import Cost, Keep, Site, register_op
from irprune.ops.frozen import Whole
from irprune.ops.linear import kept_irreps, segment_masks, type_of


@register_op
class SphericalHarmonics(Whole):
    """Y_l of a vector, for a list of orders l; each order can go on its own."""

    name = "spherical-harmonics"
    targets = ("e3nn.o3._spherical_harmonics.SphericalHarmonics",)

    def infer(self, site: Site) -> Any:
        m = site.module
        assert isinstance(m, o3.SphericalHarmonics)
        t = site.irreps(0)
        if t.dim != 3 or t.lmax != 1:
            site.expect(0, str(m.irreps_in))
        return type_of(m.irreps_out, t)

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = site.module
        assert isinstance(m, o3.SphericalHarmonics)
        irreps, _ = kept_irreps(m.irreps_out, segment_masks(m.irreps_out, keep.result))
        return self.build({**self.spec(m), "irreps_out": str(irreps)})

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost(flops=4.0 * float(site.result.components(keep.result).sum()))

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, o3.SphericalHarmonics)
        return {
            "irreps_in": str(module.irreps_in),
            "irreps_out": str(module.irreps_out),
            "normalize": bool(module.normalize),
            "normalization": module.normalization,
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return o3.SphericalHarmonics(
            o3.Irreps(spec["irreps_out"]),
            normalize=spec["normalize"],
            normalization=spec["normalization"],
            irreps_in=o3.Irreps(spec["irreps_in"]),
        )

    def capturable(self, module: nn.Module) -> nn.Module:
        from irprune.layers.capturable import plain_harmonics

        return plain_harmonics(module)

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, o3.SphericalHarmonics)
        ls = [ir.l for mul, ir in m.irreps_out for _ in range(mul)]
        return o3.spherical_harmonics(ls, args[0], m.normalize, m.normalization)
