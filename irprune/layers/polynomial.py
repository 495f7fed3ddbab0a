"""A polynomial per channel with weights by element."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from irprune.backends import kernel_for
from irprune.layers.convolution import together
from irprune.specs.poly import PolySpec


class ElementPolynomial(nn.Module):
    """A PolySpec whose weights depend on the element of the atom."""

    def __init__(self, spec: PolySpec, elements: int, backend: str = "auto") -> None:
        super().__init__()
        self.spec = spec
        self.backend = backend
        self.weight = nn.Parameter(torch.zeros(elements, spec.n_paths, spec.channels))
        """[S, paths, channels]."""

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """[N, outputs] from x [N, inputs] and species [N]."""
        x, weight = together(x, self.weight)
        return kernel_for(self.spec, x, self.backend)(x, weight, species)

    def extra_repr(self) -> str:
        return f"{self.spec}, {self.weight.shape[0]} elements"
