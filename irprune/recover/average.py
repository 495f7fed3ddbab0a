"""Exponential moving average of parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Average:
    """Average of named parameters; its decay grows from 0.1 to ``decay`` over the first steps."""

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {k: v.detach().clone() for k, v in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, Tensor]) -> None:
        """Moves the average towards the present values."""
        self.updates += 1
        decay = min(self.decay, self.updates / (9.0 + self.updates))
        for name, value in parameters.items():
            self.values[name].lerp_(value.detach(), 1.0 - decay)

    @torch.no_grad()
    def write_to(self, parameters: Mapping[str, Tensor]) -> None:
        """Sets the parameters to their averages."""
        for name, value in parameters.items():
            value.copy_(self.values[name])
