"""Layers that can be captured for a compiler: no TorchScript, and no decisions on values."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from irprune.layers.elements import ElementLinear
from irprune.linearspec import mix


@torch.library.custom_op("irprune::mix_by_element", mutates_args=())
def mix_by_element(x: Tensor, species: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Copies of one irrep mixed by element: [N, mul·dim], [N], [S, mul, copies] → [N, copies·dim]."""
    present = torch.unique(species).tolist()
    if len(present) == 1:
        return mix(x, weight[present[0]], dim).clone()
    out = x.new_empty(x.shape[0], weight.shape[2] * dim)
    for element in present:
        rows = (species == element).nonzero().squeeze(1)
        out[rows] = mix(x[rows], weight[element], dim)
    return out


@mix_by_element.register_fake
def _(x: Tensor, species: Tensor, weight: Tensor, dim: int) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[2] * dim)


@torch.library.custom_op("irprune::outer_by_element", mutates_args=())
def outer_by_element(x: Tensor, y: Tensor, species: Tensor, elements: int, dim: int) -> Tensor:
    """Σ over the atoms of an element of x ⊗ y: [N, a·dim], [N, b·dim], [N] → [S, a, b]."""
    left = x.reshape(x.shape[0], -1, dim)
    right = y.reshape(y.shape[0], -1, dim)
    out = x.new_zeros(elements, left.shape[1], right.shape[1])
    for element in torch.unique(species).tolist():
        rows = (species == element).nonzero().squeeze(1)
        out[element] = torch.einsum("num,nvm->uv", left[rows], right[rows])
    return out


@outer_by_element.register_fake
def _(x: Tensor, y: Tensor, species: Tensor, elements: int, dim: int) -> Tensor:
    return x.new_empty(elements, x.shape[1] // dim, y.shape[1] // dim)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*(a for a in inputs if isinstance(a, Tensor)))
    ctx.rest = [a for a in inputs if not isinstance(a, Tensor)]


def _mixed(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, species, weight = ctx.saved_tensors
    (dim,) = ctx.rest
    gx = mix_by_element(g, species, weight.transpose(1, 2), dim)
    need = ctx.needs_input_grad[2]
    gw = outer_by_element(x, g, species, weight.shape[0], dim) if need else None
    return gx, None, gw, None


def _outer(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, y, species = ctx.saved_tensors
    dim = ctx.rest[1]
    gx = mix_by_element(y, species, g.transpose(1, 2), dim)
    return gx, mix_by_element(x, species, g, dim), None, None, None


mix_by_element.register_autograd(_mixed, setup_context=_keep)
outer_by_element.register_autograd(_outer, setup_context=_keep)


class CapturableElementLinear(nn.Module):
    """An ``ElementLinear`` whose walk over the elements is one operator."""

    def __init__(self, original: ElementLinear) -> None:
        super().__init__()
        self.original = original

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """[N, dim out] from x [N, dim in] and species [N]."""
        return self.original.along_paths(
            x, lambda part, weight, dim: mix_by_element(part, species, weight, dim)
        )


class PlainGate(nn.Module):
    """A gate of slices, activations and products.

    ``scalars``, ``gates`` and ``gated`` are columns of the input: (start, copies, components of one)
    for each segment. Segments of gates in their order serve those of ``gated`` in theirs.
    """

    def __init__(
        self,
        scalars: Sequence[tuple[int, int, int]],
        gates: Sequence[tuple[int, int, int]],
        gated: Sequence[tuple[int, int, int]],
        act_scalars: nn.Module,
        act_gates: nn.Module,
    ) -> None:
        super().__init__()
        self.scalars, self.gates, self.gated = tuple(scalars), tuple(gates), tuple(gated)
        self.act_scalars, self.act_gates = act_scalars, act_gates

    def forward(self, x: Tensor) -> Tensor:
        """[rows, dim out] from x [rows, dim in]."""
        out = [self.act_scalars(_columns(x, self.scalars))] if self.scalars else []
        if self.gated:
            gates, at = self.act_gates(_columns(x, self.gates)), 0
            for start, mul, dim in self.gated:
                block = x[:, start : start + mul * dim].reshape(-1, mul, dim)
                block = block * gates[:, at : at + mul].unsqueeze(2)
                out.append(block.reshape(-1, mul * dim))
                at += mul
        return torch.cat(out, dim=1)


def _columns(x: Tensor, segments: Sequence[tuple[int, int, int]]) -> Tensor:
    parts = [x[:, start : start + mul * dim] for start, mul, dim in segments]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class PlainHarmonics(nn.Module):
    """``o3.SphericalHarmonics`` from a plain function of all Y_l up to an order.

    e3nn's own function is TorchScript, which fixes the number of edges once it has been called.
    """

    def __init__(self, original: Any, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.normalize, self.function = bool(original.normalize), function
        self.orders = tuple(int(order) for order in original._ls_list)
        scales = {
            "integral": lambda order: math.sqrt((2 * order + 1) / (4 * math.pi)),
            "component": lambda order: math.sqrt(2 * order + 1),
            "norm": lambda order: 1.0,
        }
        self.scales = tuple(scales[original.normalization](order) for order in self.orders)

    def forward(self, x: Tensor) -> Tensor:
        """[edges, Σ(2l+1)] from vectors [edges, 3]."""
        if self.normalize:
            x = nn.functional.normalize(x, dim=-1)
        every = self.function(max(self.orders), x[..., 0], x[..., 1], x[..., 2])
        return torch.cat(
            [
                scale * every[..., order**2 : (order + 1) ** 2]
                for order, scale in zip(self.orders, self.scales, strict=True)
            ],
            dim=-1,
        )


def plain_harmonics(original: Any) -> nn.Module:
    """The same harmonics without TorchScript; ``original`` where e3nn's function keeps no Python."""
    module = sys.modules[type(original).__module__]
    function = getattr(module._spherical_harmonics, "_torchdynamo_inline", None)
    return original if function is None else PlainHarmonics(original, function)
