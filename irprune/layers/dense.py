"""Linear maps and radial networks with every constant factor folded into the weights."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from irprune.backends import kernel_for
from irprune.irreps import Layout
from irprune.layers.convolution import together
from irprune.ops.activations import function_named
from irprune.specs.layout import layout_text
from irprune.specs.linear import LinearSpec


class BlockLinear(nn.Module):
    """A LinearSpec with its weights: one matrix per irrep, zeros where there was no path."""

    def __init__(
        self,
        irreps_in: str,
        irreps_out: str,
        groups: tuple[tuple[int, int, int, int], ...],
        bias: bool = False,
        backend: str = "auto",
        layout: Layout = Layout.MUL_IR,
    ) -> None:
        super().__init__()
        self.spec = LinearSpec(irreps_in, irreps_out, groups, layout)
        self.backend = backend
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(p.copies)) for p in self.spec.products
        )
        """For each group [copies in, copies out]."""
        self.bias = nn.Parameter(torch.zeros(self.spec.dims[1])) if bias else None
        """[dim out], zero but for scalars, which lie at the same places in both layouts."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim out] from x [N, dim in]."""
        x, *weights = together(x, *self.weights)
        out = kernel_for(self.spec, x, self.backend)(x, weights)
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        how = layout_text(self.spec.layout)
        return f"{self.spec.irreps_in} -> {self.spec.irreps_out}{how}"


class DenseNet(nn.Module):
    """Scalars through layers of a matrix and an activation."""

    def __init__(self, sizes: tuple[int, ...], acts: tuple[str, ...]) -> None:
        super().__init__()
        self.sizes, self.acts = sizes, acts
        pairs = itertools.pairwise(sizes)
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(a, b)) for a, b in pairs)
        """For each layer [in, out]."""

    def forward(self, x: Tensor) -> Tensor:
        """[rows, last] from x [rows, first]."""
        for weight, name in zip(self.weights, self.acts, strict=True):
            x = torch.mm(x, weight)
            act = function_named(name)
            x = x if act is None else act(x)
        return x

    def extra_repr(self) -> str:
        return " -> ".join(map(str, self.sizes))
