"""Layers that can be captured for a compiler: no TorchScript, and no decisions on values."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from irprune.layers.elements import ElementLinear


class CapturableElementLinear(nn.Module):
    """An ``ElementLinear`` whose walk over the elements is one operator."""

    def __init__(self, original: ElementLinear) -> None:
        super().__init__()
        self.original = original

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """[N, dim out] from x [N, dim in] and species [N]."""
        return self.original.by_operators(x, species)


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
