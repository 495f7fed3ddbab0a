"""Gather, tensor product and scatter as one module."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from irprune.backends import kernel_for
from irprune.specs.path import PathSpec


class Convolution(nn.Module):
    """Features of senders times harmonics times weights, summed at the receivers, by a PathSpec."""

    def __init__(self, spec: PathSpec, backend: str = "auto") -> None:
        super().__init__()
        self.spec = spec
        self.backend = backend

    def forward(self, x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
        """[N, out] from x [N, in1], y [E, in2], w [rows, weights] and the packed edges."""
        x, y, w = together(x, y, w)
        return kernel_for(self.spec, x, self.backend)(x, y, w, edges)

    def extra_repr(self) -> str:
        return str(self.spec)


def together(*tensors: Tensor) -> list[Tensor]:
    """Tensors in the dtype that torch would compute in: under autocast they may differ."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors))
    return [t.to(dtype) for t in tensors]


def species_rows(weight: Tensor, species: Tensor) -> Tensor:
    """Rows of a tensor of elements [S, …] for each atom."""
    return torch.index_select(weight, 0, species)
