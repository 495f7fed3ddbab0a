"""Linear maps and networks with their factors folded in."""

from __future__ import annotations

from typing import Any

from torch import nn

from irprune.irreps import IrrepsType
from irprune.layers.dense import BlockLinear, DenseNet
from irprune.ops.base import Cost, Keep, Site, register_op
from irprune.ops.frozen import Frozen


@register_op
class Blocks(Frozen):
    """One matrix product per run of equal irreps."""

    name = "block-linear"
    row_wise = True
    targets = ("irprune.layers.dense.BlockLinear",)
    why = "a fused linear map: prune before fuse-linear"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, BlockLinear)
        t = site.expect(0, site.module.irreps_in)
        return IrrepsType.parse(site.module.irreps_out, t.space)

    def cost(self, site: Site, keep: Keep) -> Cost:
        m = site.module
        assert isinstance(m, BlockLinear)
        flops = sum(2.0 * m.inputs[g[0]].dim * w.numel()
                    for g, w in zip(m.groups, m.weights, strict=True))  # fmt: skip
        return Cost(sum(p.numel() for p in m.parameters()), flops, flops)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, BlockLinear)
        return {
            "irreps": [module.irreps_in, module.irreps_out],
            "groups": [list(g) for g in module.groups],
            "bias": module.bias is not None,
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        groups = tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in spec["groups"])
        irreps_in, irreps_out = spec["irreps"]
        return BlockLinear(irreps_in, irreps_out, groups, bool(spec["bias"]))


@register_op
class Dense(Frozen):
    """Scalars through matrices and activations."""

    name = "dense-net"
    row_wise = True
    targets = ("irprune.layers.dense.DenseNet",)
    why = "a fused network: prune before fuse-linear"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, DenseNet)
        t = site.expect(0, f"{site.module.sizes[0]}x0e")
        return IrrepsType.scalars(site.module.sizes[-1], t.space)

    def cost(self, site: Site, keep: Keep) -> Cost:
        m = site.module
        assert isinstance(m, DenseNet)
        params = sum(w.numel() for w in m.weights)
        return Cost(params, 2.0 * params + sum(m.sizes[1:]), 2.0 * params)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, DenseNet)
        return {"sizes": list(module.sizes), "acts": list(module.acts)}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return DenseNet(tuple(int(s) for s in spec["sizes"]), tuple(spec["acts"]))
