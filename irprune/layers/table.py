"""Rows of weights looked up by distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from irprune.backends import kernel_for
from irprune.specs.table import TableSpec


class RadialTable(nn.Module):
    """A TableSpec with its coefficients: what stands for a radial network.

    Where the network depends on the elements at both ends, ``kinds`` says which table serves a pair.
    """

    coefficients: Tensor
    """[tables, intervals, degree + 1, width]."""
    kinds: Tensor | None
    """[S, S] int64, by the elements of the first and the second end; None for one table."""

    def __init__(self, spec: TableSpec, elements: int | None = None, backend: str = "auto") -> None:
        super().__init__()
        self.spec = spec
        self.backend = backend
        shape = (spec.tables, spec.intervals, spec.degree + 1, spec.width)
        self.register_buffer("coefficients", torch.zeros(shape))
        kinds = None if elements is None else torch.zeros(elements, elements, dtype=torch.int64)
        self.register_buffer("kinds", kinds)

    def forward(
        self, length: Tensor, species: Tensor | None = None, edge_index: Tensor | None = None
    ) -> Tensor:
        """[rows, width] from lengths [rows] or [rows, 1] Å; with ``kinds``, species [N] and edge
        index [2, rows] too.

        Raises:
            UsageError: a length outside of the range of the table.
        """
        r = length.reshape(-1).to(self.coefficients.dtype)
        which = None
        if self.kinds is not None:
            assert species is not None and edge_index is not None
            which = self.kinds[species[edge_index[0]], species[edge_index[1]]]
        return kernel_for(self.spec, r, self.backend)(r, self.coefficients, which)

    def extra_repr(self) -> str:
        return str(self.spec)
