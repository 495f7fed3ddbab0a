"""A gate of slices, activations and products, in either flat layout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from irprune.errors import UsageError
from irprune.irreps import IrrepsType, Layout, flat_layout
from irprune.specs.layout import layout_text

Parts = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class PlainGate(nn.Module):
    """What ``e3nn.nn.Gate`` computes, without TorchScript.

    ``parts`` are the segments of the input that are scalars, gates and gated. Gates in their order
    serve the copies of the gated segments in theirs.

    Raises:
        UsageError: in ``ir_mul``, a gated segment that the result splits, as it does where its gates
            are of two parities.
    """

    def __init__(
        self,
        irreps_in: str,
        irreps_out: str,
        parts: Sequence[Sequence[int]],
        act_scalars: nn.Module,
        act_gates: nn.Module,
        layout: Layout = Layout.MUL_IR,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.layout = flat_layout(layout)
        scalars, gates, gated = (tuple(int(i) for i in part) for part in parts)
        self.parts: Parts = (scalars, gates, gated)
        self.act_scalars, self.act_gates = act_scalars, act_gates
        columns, at = [], 0
        for s in IrrepsType.parse(irreps_in):
            columns.append((at, s.mul, s.dim))
            at += s.mul * s.dim
        self._scalars = [columns[i] for i in scalars]
        self._gates = [columns[i] for i in gates]
        self._gated = [columns[i] for i in gated]
        made = IrrepsType.parse(irreps_out).segments
        split = [(s.mul, s.dim) for s in made[len(made) - len(gated) :]]
        if self.layout is Layout.IR_MUL and split != [(mul, dim) for _, mul, dim in self._gated]:
            raise UsageError(
                f"the gate {irreps_in} -> {irreps_out} splits a gated segment: it has no ir_mul"
            )

    def forward(self, x: Tensor) -> Tensor:
        """[rows, dim out] from x [rows, dim in]."""
        out = [self.act_scalars(_columns(x, self._scalars))] if self._scalars else []
        if self._gated:
            gates, at = self.act_gates(_columns(x, self._gates)), 0
            for start, mul, dim in self._gated:
                block, gate = x[:, start : start + mul * dim], gates[:, at : at + mul]
                if self.layout is Layout.IR_MUL:
                    block = block.reshape(-1, dim, mul) * gate.unsqueeze(1)
                else:
                    block = block.reshape(-1, mul, dim) * gate.unsqueeze(2)
                out.append(block.reshape(-1, mul * dim))
                at += mul
        return torch.cat(out, dim=1)

    def extra_repr(self) -> str:
        return f"{self.irreps_in} -> {self.irreps_out}{layout_text(self.layout)}"


def _columns(x: Tensor, segments: Sequence[tuple[int, int, int]]) -> Tensor:
    parts = [x[:, start : start + mul * dim] for start, mul, dim in segments]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
