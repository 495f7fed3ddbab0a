"""Linear maps and networks with their factors folded in."""

from __future__ import annotations

from typing import Any

from torch import nn

from irprune.errors import UsageError
from irprune.irreps import IrrepsType, Layout
from irprune.layers.dense import BlockLinear, DenseNet
from irprune.ops.base import Cost, Keep, LayoutRole, Site, register_op
from irprune.ops.frozen import Frozen
from irprune.specs.linear import LinearSpec


@register_op
class Blocks(Frozen):
    """One matrix product per run of equal irreps."""

    name = "block-linear"
    row_wise = True
    targets = ("irprune.layers.dense.BlockLinear",)
    why = "a fused linear map: prune before fuse-linear"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, BlockLinear)
        spec = site.module.spec
        t = site.expect(0, spec.irreps_in, spec.layout)
        return IrrepsType.parse(spec.irreps_out, t.space).in_layout(spec.layout)

    def layout_role(self, site: Site) -> LayoutRole:
        assert isinstance(site.module, BlockLinear)
        try:
            site.module.spec.split_as(site.irreps(0).irreps)
        except UsageError:
            return LayoutRole.FIXED
        return LayoutRole.KERNEL

    def laid_out(self, site: Site, layout: Layout) -> nn.Module:
        """Split as its operand is: in ``ir_mul`` the split says where the copies lie."""
        m = site.module
        assert isinstance(m, BlockLinear)
        spec = m.spec.split_as(site.irreps(0).irreps)
        made = BlockLinear(
            spec.irreps_in, spec.irreps_out, spec.groups, m.bias is not None, m.backend, layout
        )
        made.weights, made.bias = m.weights, m.bias
        return made

    def cost(self, site: Site, keep: Keep) -> Cost:
        assert isinstance(site.module, BlockLinear)
        flops = site.module.spec.flops()
        return Cost(sum(p.numel() for p in site.module.parameters()), flops, flops)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, BlockLinear)
        return {**module.spec.to_json(), "bias": module.bias is not None}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        found = LinearSpec.from_json(spec)
        given = (found.irreps_in, found.irreps_out, found.groups, bool(spec["bias"]))
        return BlockLinear(*given, layout=found.layout)

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, BlockLinear)
        out = m.spec.evaluate(args[0], list(m.weights))
        return out if m.bias is None else out + m.bias


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
