"""PathSpec: a tensor product with weights per row, as a value that can be printed, hashed, evaluated.

What every kernel backend lowers from. It needs neither e3nn nor a model: the Clebsch-Gordan
coefficients that the checkpoint itself holds are in it, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from irprune.errors import UsageError
from irprune.irreps import IrrepsType, Layout, Segment, flat_layout
from irprune.specs.keyed import Keyed
from irprune.specs.layout import layout_json, layout_of, layout_text

if TYPE_CHECKING:
    from torch import Tensor

Coupling = tuple[tuple[int, int, int, float], ...]
"""Non-zeros (m1, m2, m3, value) of one path, sorted."""


@dataclass(frozen=True)
class SpecPath:
    """One path: segment ``i1`` of the features times segment ``i2`` of the harmonics."""

    i1: int
    i2: int
    out: int
    weight: int
    """Offset of its weights in a row of weights; as many as segment ``i1`` has copies."""
    coefficient: float
    coupling: Coupling


@dataclass(frozen=True)
class PathSpec(Keyed):
    """out[u, m3] = Σ over paths of c w[u] Σ_{m1 m2} C[m1, m2, m3] x[u, m1] y[m2].

    In e3nn's words: mode ``uvu`` with one copy of each irrep in the second factor. All values are
    flat rows: x [rows, in1], y [rows, in2], w [rows, n_weights], result [rows, out].
    """

    in1: tuple[Segment, ...]
    in2: tuple[Segment, ...]
    out: tuple[Segment, ...]
    paths: tuple[SpecPath, ...]
    n_weights: int
    layout: Layout = Layout.MUL_IR
    """Of x and of the result. Of y, with one copy of each irrep, both layouts are the same."""

    __hash__ = Keyed.__hash__

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", flat_layout(self.layout))
        for p in self.paths:
            copies = self.in1[p.i1].mul
            if self.in2[p.i2].mul != 1 or self.out[p.out].mul != copies:
                raise UsageError(
                    f"path {p.i1} x {p.i2} -> {p.out} couples {self.in1[p.i1]} and"
                    f" {self.in2[p.i2]} to {self.out[p.out]}; a PathSpec has one copy in the second"
                    " factor and as many in the result as in the first"
                )
            if not 0 <= p.weight <= self.n_weights - copies:
                raise UsageError(
                    f"path {p.i1} x {p.i2} -> {p.out} has {copies} weights from {p.weight} on, but"
                    f" a row has {self.n_weights}"
                )

        used = [0] * self.n_weights
        for p in self.paths:
            for k in range(p.weight, p.weight + self.in1[p.i1].mul):
                used[k] += 1
        if any(n != 1 for n in used):
            k = next(i for i, n in enumerate(used) if n != 1)
            raise UsageError(
                f"weight {k} of {self.n_weights} is used by {used[k]} paths; a PathSpec uses every"
                " weight of a row once"
            )

    @cached_property
    def dims(self) -> tuple[int, int, int]:
        """Components of a row of x, y and the result."""
        a, b, c = (sum(s.mul * s.dim for s in part) for part in (self.in1, self.in2, self.out))
        return a, b, c

    @staticmethod
    def offsets(segments: Sequence[Segment]) -> tuple[int, ...]:
        """First component of each segment in a row."""
        found, at = [], 0
        for s in segments:
            found.append(at)
            at += s.mul * s.dim
        return tuple(found)

    def flops(self) -> float:
        """Multiply-adds times two per row, with the couplings contracted with y first."""
        total = 0.0
        for p in self.paths:
            pairs = len({(a, c) for a, _, c, _ in p.coupling})
            outer = min(self.in1[p.i1].dim, self.out[p.out].dim)
            total += 2.0 * self.in1[p.i1].mul * (pairs + outer) + 2.0 * len(p.coupling)
        return total

    def bytes(self, item: int = 4) -> int:
        """Bytes of a row of every operand and of the result, read or written once."""
        return item * (sum(self.dims) + self.n_weights)

    def evaluate(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        """The oracle: plain einsum, row by row, [rows, out]. Differentiable any number of times."""
        import torch

        from irprune.specs.clebsch import tables

        starts1, starts2 = self.offsets(self.in1), self.offsets(self.in2)
        shapes = [(s.mul, s.dim) for s in self.out]
        if self.layout is Layout.IR_MUL:
            shapes = [(dim, mul) for mul, dim in shapes]
        parts = [x.new_zeros(x.shape[0], *shape) for shape in shapes]
        for p, table in zip(self.paths, tables(self, x), strict=True):
            a, b = self.in1[p.i1], self.in2[p.i2]
            left = x[:, starts1[p.i1] : starts1[p.i1] + a.mul * a.dim]
            right = y[:, starts2[p.i2] : starts2[p.i2] + b.dim]
            weight = w[:, p.weight : p.weight + a.mul] * p.coefficient
            matrix = torch.einsum("ijk,zj->zik", table, right)
            if self.layout is Layout.IR_MUL:
                left = left.reshape(-1, a.dim, a.mul)
                made = weight.unsqueeze(1) * torch.bmm(matrix.transpose(1, 2), left)
            else:
                made = weight.unsqueeze(2) * torch.bmm(left.reshape(-1, a.mul, a.dim), matrix)
            parts[p.out] = parts[p.out] + made
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def to_json(self) -> dict[str, Any]:
        return {
            "in1": _text(self.in1),
            "in2": _text(self.in2),
            "out": _text(self.out),
            "weights": self.n_weights,
            "paths": [
                [p.i1, p.i2, p.out, p.weight, p.coefficient, [list(c) for c in p.coupling]]
                for p in self.paths
            ],
            **layout_json(self.layout),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PathSpec:
        in1, in2, out = (IrrepsType.parse(value[k]).segments for k in ("in1", "in2", "out"))
        paths = tuple(
            SpecPath(int(a), int(b), int(o), int(w), float(c), tuple(_entry(e) for e in coupling))
            for a, b, o, w, c, coupling in value["paths"]
        )
        return cls(in1, in2, out, paths, int(value["weights"]), layout_of(value))

    def in_layout(self, layout: Layout) -> PathSpec:
        """The same product of rows in another layout."""
        return replace(self, layout=layout)

    def __str__(self) -> str:
        how = layout_text(self.layout)
        lines = [f"{_text(self.in1)} * {_text(self.in2)} -> {_text(self.out)}{how}, {self.key}"]
        for p in self.paths:
            a, b, c = self.in1[p.i1], self.in2[p.i2], self.out[p.out]
            lines.append(
                f"  {a} [{p.i1}] * {b.ir} [{p.i2}] -> {c} [{p.out}]: weights {p.weight}.."
                f"{p.weight + a.mul}, coefficient {p.coefficient:.6g}, {len(p.coupling)} couplings"
            )
        return "\n".join(lines)


def _text(segments: Sequence[Segment]) -> str:
    return "+".join(map(str, segments))


def _entry(e: Sequence[float]) -> tuple[int, int, int, float]:
    return int(e[0]), int(e[1]), int(e[2]), float(e[3])
