"""e3nn's normalisations that treat each block alone, in evaluation mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from e3nn import nn as enn
from e3nn import o3
from torch import Tensor, nn

from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.activations import function_named, name_of
from irprune.ops.base import Cost, Keep, OpDef, Site, register_op
from irprune.ops.constants import copy_constants, in_dtype_of
from irprune.ops.linear import kept_irreps, segment_masks, type_of

if TYPE_CHECKING:
    from irprune.blocks import Coupler


def remaining(irreps: o3.Irreps, mask: BoolMask) -> o3.Irreps:
    """The irreps of the kept units."""
    return kept_irreps(irreps, segment_masks(irreps, mask))[0]


def at(values: Tensor, mask: BoolMask) -> Tensor:
    """Entries at a mask, [n] → [kept]."""
    return values.detach()[torch.from_numpy(mask).to(values.device)].clone()


@register_op
class BatchNorm(OpDef):
    """``e3nn.nn.BatchNorm`` in evaluation mode: each block by its running statistics."""

    name = "batch-norm"
    row_wise = True
    targets = ("e3nn.nn._batchnorm.BatchNorm",)

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, enn.BatchNorm)
        return site.expect(0, str(site.module.irreps))

    def expects(self, module: nn.Module) -> tuple[str | None, ...]:
        return (str(module.irreps),)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        assert nz[0] is not None
        return nz[0] | self._scalars(site.module)  # a running mean or a bias moves zeros

    def _scalars(self, module: Any) -> BoolMask:
        """The units that ``is_scalar`` of e3nn says have a mean and a bias (0e)."""
        return np.array([ir.is_scalar() for mul, ir in module.irreps for _ in range(mul)], bool)

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = site.module
        assert isinstance(m, enn.BatchNorm)
        mask = keep.operand(0)
        scalars = mask[self._scalars(m)]
        small = self.build({**self.spec(m), "irreps": str(remaining(m.irreps, mask))})
        assert isinstance(small, enn.BatchNorm)
        if not m.instance:
            small.running_mean = at(m.running_mean, scalars)
            small.running_var = at(m.running_var, mask)
        if m.affine:
            small.weight = nn.Parameter(at(m.weight, mask), m.weight.requires_grad)
            small.bias = nn.Parameter(at(m.bias, scalars), m.bias.requires_grad)
        return small

    def cost(self, site: Site, keep: Keep) -> Cost:
        m = site.module
        assert isinstance(m, enn.BatchNorm)
        mask = keep.operand(0)
        params = int(mask.sum() + mask[self._scalars(m)].sum()) if m.affine else 0
        return Cost(params, 2.0 * float(site.result.components(mask).sum()))

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, enn.BatchNorm)
        return {
            "irreps": str(module.irreps),
            "eps": module.eps,
            "momentum": module.momentum,
            "affine": module.affine,
            "reduce": module.reduce,
            "instance": module.instance,
            "normalization": module.normalization,
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return enn.BatchNorm(**spec).eval()

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, enn.BatchNorm)
        scalars = self._scalars(m)
        dims = torch.from_numpy(site.irreps(0).unit_dims)
        n, s = len(scalars), torch.from_numpy(np.flatnonzero(scalars))
        mean = torch.zeros(n, dtype=args[0].dtype).index_copy(0, s, m.running_mean)
        shift = torch.zeros(n, dtype=args[0].dtype)
        factor = (m.running_var + m.eps).rsqrt()
        if m.affine:
            shift, factor = shift.index_copy(0, s, m.bias), factor * m.weight
        mean, shift, factor = (v.repeat_interleave(dims) for v in (mean, shift, factor))
        return (args[0] - mean) * factor + shift


@register_op
class NormActivation(OpDef):
    """``e3nn.nn.NormActivation``: each block times a function of its own norm."""

    name = "norm-activation"
    row_wise = True
    targets = ("e3nn.nn._normact.NormActivation",)

    def infer(self, site: Site) -> Any:
        m = site.module
        assert isinstance(m, enn.NormActivation)
        return type_of(m.irreps_out, site.expect(0, str(m.irreps_in)))

    def _made(self, m: enn.NormActivation, irreps: o3.Irreps, function: Any) -> enn.NormActivation:
        return enn.NormActivation(irreps, function, m.normalize, m.epsilon, m.bias)

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = site.module
        assert isinstance(m, enn.NormActivation)
        mask = keep.operand(0)
        with in_dtype_of(m):
            small = self._made(m, remaining(m.irreps_in, mask), m.scalar_nonlinearity)
        copy_constants(m, small)
        if m.bias:
            small.biases = nn.Parameter(at(m.biases, mask), m.biases.requires_grad)
        return small

    def cost(self, site: Site, keep: Keep) -> Cost:
        blocks = float(keep.result.sum())
        components = float(site.result.components(keep.result).sum())
        assert isinstance(site.module, enn.NormActivation)
        return Cost(int(blocks) if site.module.bias else 0, 4.0 * blocks + 3.0 * components)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, enn.NormActivation)
        return {
            "irreps": str(module.irreps_in),
            "function": name_of(module.scalar_nonlinearity),
            "normalize": module.normalize,
            "epsilon": module.epsilon,
            "bias": module.bias,
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return enn.NormActivation(
            o3.Irreps(spec["irreps"]),
            function_named(spec["function"]),
            spec["normalize"],
            spec["epsilon"],
            spec["bias"],
        )

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, enn.NormActivation)
        out = []
        for i, x in enumerate(args[0].split([int(d) for d in site.irreps(0).unit_dims], dim=1)):
            norm = x.square().sum(1, keepdim=True).clamp(min=m._eps_squared).sqrt()
            scaling = m.scalar_nonlinearity(norm + (m.biases[i] if m.bias else 0.0))
            out.append(x * (scaling / norm if m.normalize else scaling))
        return torch.cat(out, dim=1)


@register_op
class Norms(OpDef):
    """``e3nn.o3.Norm``: the norm of each block, a scalar."""

    name = "norms"
    row_wise = True
    targets = ("e3nn.o3._norm.Norm",)

    def infer(self, site: Site) -> Any:
        m = site.module
        assert isinstance(m, o3.Norm)
        t = site.expect(0, str(m.irreps_in))
        return IrrepsType.of(((s.mul, 0, 1) for s in t), space=t.space)

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = site.module
        assert isinstance(m, o3.Norm)
        with in_dtype_of(m):
            small = o3.Norm(remaining(m.irreps_in, keep.operand(0)), m.squared)
        copy_constants(m, small)
        return small

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost(flops=2.0 * float(site.irreps(0).components(keep.operand(0)).sum()))

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, o3.Norm)
        return {"irreps": str(module.irreps_in), "squared": module.squared}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return o3.Norm(spec["irreps"], spec["squared"])

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        assert isinstance(site.module, o3.Norm)
        parts = args[0].split([int(d) for d in site.irreps(0).unit_dims], dim=1)
        squares = torch.stack([p.square().sum(1) for p in parts], dim=1)
        return squares if site.module.squared else squares.sqrt()


@register_op
class Identity(OpDef):
    """``e3nn.nn.Identity``, and ``e3nn.nn.Dropout`` in evaluation mode."""

    name = "identity"
    row_wise = True
    targets = ("e3nn.nn._identity.Identity", "e3nn.nn._dropout.Dropout")

    def _irreps(self, module: nn.Module) -> o3.Irreps:
        return module.irreps if isinstance(module, enn.Dropout) else module.irreps_in

    def infer(self, site: Site) -> Any:
        assert site.module is not None
        return site.expect(0, str(self._irreps(site.module)))

    def expects(self, module: nn.Module) -> tuple[str | None, ...]:
        return (str(self._irreps(module)),)

    def couple(self, site: Site, c: Coupler) -> None:
        c.same(c.operand(0), c.out)

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        assert site.module is not None
        irreps = remaining(self._irreps(site.module), keep.operand(0))
        return self.build({**self.spec(site.module), "irreps": str(irreps)})

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()

    def spec(self, module: nn.Module) -> dict[str, Any]:
        p = float(module.p) if isinstance(module, enn.Dropout) else None
        return {"irreps": str(self._irreps(module)), "p": p}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        if spec["p"] is None:
            return enn.Identity(spec["irreps"], spec["irreps"])
        return enn.Dropout(spec["irreps"], spec["p"]).eval()

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        return args[0].clone()
