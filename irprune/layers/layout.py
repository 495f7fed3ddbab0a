"""Rows from one flat layout to the other."""

from __future__ import annotations

from torch import Tensor, nn

from irprune.irreps import IrrepsType, Layout, flat_layout
from irprune.specs.layout import to_ir_mul, to_mul_ir


class ChangeLayout(nn.Module):
    """Rows of ``irreps`` from the other flat layout to ``layout``: the same numbers, moved."""

    def __init__(self, irreps: str, layout: Layout) -> None:
        super().__init__()
        self.irreps, self.layout = irreps, flat_layout(layout)
        self.segments = IrrepsType.parse(irreps).segments

    @property
    def source(self) -> Layout:
        """The layout of what is given."""
        return Layout.MUL_IR if self.layout is Layout.IR_MUL else Layout.IR_MUL

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim] from x [N, dim]."""
        change = to_ir_mul if self.layout is Layout.IR_MUL else to_mul_ir
        return change(x, self.segments)

    def extra_repr(self) -> str:
        return f"{self.irreps} to {self.layout.value}"
