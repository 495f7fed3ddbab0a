"""Numbers that multiply or shift the components of each row, as modules that can be sliced."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ComponentScale(nn.Module):
    """[N, dim] times one number per component, [dim]; a parameter where a parameter is given."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        if isinstance(weight, nn.Parameter):
            self.weight = weight
        else:
            self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class ComponentShift(ComponentScale):
    """[N, dim] plus one number per component, [dim]."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


def empty(kind: type[ComponentScale], n: int, trained: bool) -> ComponentScale:
    """A module of zeros, to be filled from a state."""
    zeros = torch.zeros(n)
    return kind(nn.Parameter(zeros) if trained else zeros)
