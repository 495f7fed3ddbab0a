"""What depends on the element of an atom: rows of a table, and linear maps chosen by it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from irprune.irreps import IrrepsType, Layout, flat_layout
from irprune.layers.by_element import mix_by_element
from irprune.layers.convolution import species_rows
from irprune.specs.layout import layout_text
from irprune.specs.linear import mix
from irprune.waiting import would_wait


class ElementTable(nn.Module):
    """A row per element, computed once where a network computed it for every atom."""

    def __init__(
        self, elements: int, irreps: str, rows: bool = False, layout: Layout = Layout.MUL_IR
    ) -> None:
        super().__init__()
        self.irreps, self.layout = irreps, flat_layout(layout)
        self.rows = rows
        """Whether the value has no feature axis: [N] instead of [N, dim]."""
        dim = IrrepsType.parse(irreps).dim
        self.table = nn.Parameter(torch.zeros(elements, *(() if rows else (dim,))))

    def forward(self, species: Tensor) -> Tensor:
        return species_rows(self.table, species)

    def extra_repr(self) -> str:
        return f"{self.table.shape[0]} elements, {self.irreps}{layout_text(self.layout)}"


class ElementLinear(nn.Module):
    """A linear map of each irrep whose weights depend on the element of the atom.

    ``paths`` couple segment ``i`` of the input with segment ``o`` of the result, of the same irrep.
    The factors of the original are in the weights. Atoms are taken element by element.
    """

    def __init__(
        self,
        elements: int,
        irreps_in: str,
        irreps_out: str,
        paths: tuple[tuple[int, int], ...],
        layout: Layout = Layout.MUL_IR,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.layout = flat_layout(layout)
        self.paths = paths
        self.inputs = IrrepsType.parse(irreps_in).segments
        self.outputs = IrrepsType.parse(irreps_out).segments
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(elements, self.inputs[i].mul, self.outputs[o].mul))
            for i, o in paths
        )
        """For each path [S, copies in, copies out]."""

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """[N, dim out] from x [N, dim in] and species [N]."""
        if would_wait(x):
            return self.by_operators(x, species)
        present = torch.unique(species)
        if present.shape[0] == 1:
            return self._one(x, int(present[0]))
        rows = [(species == s).nonzero().squeeze(1) for s in present]
        parts = [self._one(x[r], int(s)) for r, s in zip(rows, present, strict=True)]
        if not parts:
            return x.new_zeros(0, sum(s.mul * s.dim for s in self.outputs))
        back = torch.argsort(torch.cat(rows))
        return torch.cat(parts)[back]

    def _one(self, x: Tensor, element: int) -> Tensor:
        ir_mul = self.layout is Layout.IR_MUL
        return self.along_paths(
            x, lambda part, weight, dim: mix(part, weight[element], dim, ir_mul)
        )

    def by_operators(self, x: Tensor, species: Tensor) -> Tensor:
        """The same, path by path; no Python here looks at the elements."""
        ir_mul = self.layout is Layout.IR_MUL
        return self.along_paths(
            x, lambda part, weight, dim: mix_by_element(part, species, weight, dim, ir_mul)
        )

    def along_paths(self, x: Tensor, mixed: Callable[[Tensor, Tensor, int], Tensor]) -> Tensor:
        """Sums over the paths into each segment of the result, zeros where none leads.

        Args:
            x: [N, dim in].
            mixed: of a segment [N, mul·dim], the weights of a path [S, mul, copies] and dim, gives
                [N, copies·dim].
        """
        parts = x.split([s.mul * s.dim for s in self.inputs], dim=1)
        out: list[Tensor | None] = [None] * len(self.outputs)
        for (i, o), weight in zip(self.paths, self.weights, strict=True):
            term = mixed(parts[i], weight, self.inputs[i].dim)
            have = out[o]
            out[o] = term if have is None else have + term
        filled = [
            x.new_zeros(x.shape[0], s.mul * s.dim) if part is None else part
            for part, s in zip(out, self.outputs, strict=True)
        ]
        return filled[0] if len(filled) == 1 else torch.cat(filled, dim=1)

    def extra_repr(self) -> str:
        how = layout_text(self.layout)
        elements = self.weights[0].shape[0]
        return f"{self.irreps_in} -> {self.irreps_out}{how}, {elements} elements"
