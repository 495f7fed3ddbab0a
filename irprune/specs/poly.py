"""PolySpec: an equivariant polynomial per channel, as a value that can be printed and evaluated.

MACE's symmetric contraction is one: for every channel the same polynomials of the 2l+1 components
of its messages, weighted per node.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from irprune.irreps import IrrepsType, Layout, Segment, flat_layout
from irprune.specs.keyed import Keyed
from irprune.specs.layout import layout_json, layout_of, layout_text

if TYPE_CHECKING:
    from torch import Tensor

Term = tuple[int, int, tuple[int, ...], float]
"""(component of the result, path, components of the input in ascending order, coefficient)."""


@dataclass(frozen=True)
class PolySpec(Keyed):
    """out[k, c] = Σ over terms (c, p, α, a) of a w[p, k] Π_{i ∈ α} x[k, i], for every channel k.

    ``inputs`` and ``outputs`` have one segment of ``channels`` copies per order. Values are flat
    rows: x [rows, inputs], w [rows, n_paths, channels], result [rows, outputs].
    Components are numbered through all orders of one channel.
    """

    channels: int
    inputs: tuple[tuple[int, int], ...]
    """(l, p) of each order."""
    outputs: tuple[tuple[int, int], ...]
    n_paths: int
    terms: tuple[Term, ...]
    layout: Layout = Layout.MUL_IR
    """Of x and of the result."""

    __hash__ = Keyed.__hash__

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", flat_layout(self.layout))

    @property
    def irreps_in(self) -> str:
        return _irreps(self.channels, self.inputs)

    @property
    def irreps_out(self) -> str:
        return _irreps(self.channels, self.outputs)

    @cached_property
    def dims(self) -> tuple[int, int]:
        """Components of one channel: input, result."""
        a, b = (sum(2 * order + 1 for order, _ in s) for s in (self.inputs, self.outputs))
        return a, b

    @property
    def segments(self) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
        """Segments of a row of x and of the result."""
        return _segments(self.channels, self.inputs), _segments(self.channels, self.outputs)

    @property
    def degree(self) -> int:
        return max((len(t[2]) for t in self.terms), default=0)

    def flops(self) -> float:
        """Multiply-adds times two per row: weights onto coefficients, then Horner's scheme."""
        monomials = {(t[0], t[2]) for t in self.terms}
        return 2.0 * self.channels * (len(self.terms) + len(monomials))

    def evaluate(self, x: Tensor, w: Tensor, which: Tensor | None = None) -> Tensor:
        """The oracle, degree by degree. Differentiable any number of times.

        ``which`` [rows] names the row of w that each row of x uses; its own by default.
        """
        import torch

        if which is not None:
            w = w.index_select(0, which)
        index = functools.partial(torch.tensor, device=x.device)
        parts = x.new_zeros(self.dims[1], x.shape[0], self.channels)
        columns = self.columns(x)
        for degree in sorted({len(t[2]) for t in self.terms}):
            terms = [t for t in self.terms if len(t[2]) == degree]
            value = columns.new_ones(len(terms), *columns.shape[1:])
            for position in range(degree):
                value = value * columns[index([t[2][position] for t in terms])]
            factor = value.new_tensor([t[3] for t in terms]).reshape(-1, 1, 1)
            weight = w.transpose(0, 1)[index([t[1] for t in terms])]
            parts = parts.index_add(0, index([t[0] for t in terms]), factor * weight * value)
        if self.layout is Layout.IR_MUL:
            return parts.transpose(0, 1).reshape(x.shape[0], self.dims[1] * self.channels)
        out, at = [], 0
        for order, _ in self.outputs:
            block = parts[at : at + 2 * order + 1]
            out.append(block.permute(1, 2, 0).flatten(1))
            at += 2 * order + 1
        return torch.cat(out, dim=1)

    def columns(self, x: Tensor) -> Tensor:
        """Rows of x, taken apart into components: [Σ(2l+1), rows, channels]."""
        import torch

        if self.layout is Layout.IR_MUL:
            return x.reshape(x.shape[0], self.dims[0], self.channels).transpose(0, 1)
        out, at = [], 0
        for order, _ in self.inputs:
            size = self.channels * (2 * order + 1)
            block = x[:, at : at + size].reshape(x.shape[0], self.channels, 2 * order + 1)
            out.append(block.permute(2, 0, 1))
            at += size
        return torch.cat(out)

    def to_json(self) -> dict[str, Any]:
        return {
            "channels": self.channels,
            "inputs": [list(i) for i in self.inputs],
            "outputs": [list(o) for o in self.outputs],
            "paths": self.n_paths,
            "terms": [[c, p, list(a), v] for c, p, a, v in self.terms],
            **layout_json(self.layout),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PolySpec:
        return cls(
            int(value["channels"]),
            tuple((int(a), int(b)) for a, b in value["inputs"]),
            tuple((int(a), int(b)) for a, b in value["outputs"]),
            int(value["paths"]),
            tuple(
                (int(c), int(p), tuple(int(i) for i in a), float(v))
                for c, p, a, v in value["terms"]
            ),
            layout_of(value),
        )

    def in_layout(self, layout: Layout) -> PolySpec:
        """The same polynomial of rows in another layout."""
        return replace(self, layout=layout)

    def __str__(self) -> str:
        monomials = {t[2] for t in self.terms}
        return (
            f"{self.irreps_in} -> {self.irreps_out}{layout_text(self.layout)}, {self.key}\n"
            f"  {self.n_paths} paths, {len(monomials)} monomials of degree up to {self.degree},"
            f" {len(self.terms)} terms"
        )


def _irreps(channels: int, orders: Sequence[tuple[int, int]]) -> str:
    return IrrepsType(_segments(channels, orders)).irreps


def _segments(channels: int, orders: Sequence[tuple[int, int]]) -> tuple[Segment, ...]:
    return tuple(Segment(channels, order, parity) for order, parity in orders)
