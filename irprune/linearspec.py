"""LinearSpec: a linear map of irreps with one matrix per run of equal irreps, as a value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from irprune.irreps import IrrepsType, Segment

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Product:
    """One matrix product of a LinearSpec: ``copies`` (in, out) of an irrep of ``dim`` components.

    ``columns`` are the first ones of its part of a row of x and of the result.
    """

    copies: tuple[int, int]
    dim: int
    columns: tuple[int, int]


@dataclass(frozen=True)
class LinearSpec:
    """out[v, m] = Σ over u of x[u, m] w[u, v] for each group, zeros in segments of no group.

    ``groups`` are (first segment in, last, first segment out, last): contiguous segments of one
    irrep that are mixed by one matrix [copies in, copies out]. Values are flat ``mul_ir`` rows:
    x [rows, in], result [rows, out].
    """

    irreps_in: str
    irreps_out: str
    groups: tuple[tuple[int, int, int, int], ...]

    @cached_property
    def inputs(self) -> tuple[Segment, ...]:
        return IrrepsType.parse(self.irreps_in).segments

    @cached_property
    def outputs(self) -> tuple[Segment, ...]:
        return IrrepsType.parse(self.irreps_out).segments

    @cached_property
    def dims(self) -> tuple[int, int]:
        """Numbers in a row of x, and of the result."""
        return _size(self.inputs), _size(self.outputs)

    @cached_property
    def products(self) -> tuple[Product, ...]:
        """The matrix product of each group."""
        return tuple(
            Product(
                (_copies(self.inputs[a : b + 1]), _copies(self.outputs[c : d + 1])),
                self.inputs[a].dim,
                (_size(self.inputs[:a]), _size(self.outputs[:c])),
            )
            for a, b, c, d in self.groups
        )

    def flops(self) -> float:
        """Multiply-adds times two per row."""
        return sum(2.0 * p.dim * p.copies[0] * p.copies[1] for p in self.products)

    def bytes(self, item: int = 4) -> int:
        """Bytes of a row of x and of the result, read or written once."""
        return item * sum(self.dims)

    def evaluate(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The oracle, group by group. Differentiable any number of times."""
        import torch

        pieces = dict(zip(self._runs, x.split(self._sizes, dim=1), strict=True))
        parts, at = [], 0
        for (a, b, c, d), weight in zip(self.groups, weights, strict=True):
            parts += [x.new_zeros(x.shape[0], s.mul * s.dim) for s in self.outputs[at:c]]
            parts.append(mix(pieces[a, b], weight, self.inputs[a].dim))
            at = d + 1
        parts += [x.new_zeros(x.shape[0], s.mul * s.dim) for s in self.outputs[at:]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    @cached_property
    def _runs(self) -> tuple[tuple[int, int], ...]:
        """All segments of x as runs (first, last) in order: those of a group, and the gaps."""
        runs, at = [], 0
        for a, b in sorted(g[:2] for g in self.groups):
            runs += [(at, a - 1)] * (at < a) + [(a, b)]
            at = b + 1
        return tuple(runs + [(at, len(self.inputs) - 1)] * (at < len(self.inputs)))

    @cached_property
    def _sizes(self) -> list[int]:
        return [_size(self.inputs[a : b + 1]) for a, b in self._runs]

    def to_json(self) -> dict[str, Any]:
        return {
            "irreps": [self.irreps_in, self.irreps_out],
            "groups": [list(g) for g in self.groups],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LinearSpec:
        first, second = value["irreps"]
        groups = tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in value["groups"])
        return cls(str(first), str(second), groups)

    @cached_property
    def key(self) -> str:
        """A hash of everything in the value: what caches go by."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        sizes = ", ".join(f"{p.copies[0]}x{p.copies[1]} (dim {p.dim})" for p in self.products)
        return f"{self.irreps_in} -> {self.irreps_out}, {self.key}\n  matrices {sizes or 'none'}"


def mix(x: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Copies of one irrep mixed: [N, mul·dim] and [mul, copies] → [N, copies·dim]."""
    import torch

    if dim == 1:
        return torch.mm(x, weight)
    n, (mul, copies) = x.shape[0], weight.shape
    columns = x.reshape(n, mul, dim).transpose(1, 2).reshape(n * dim, mul)
    mixed = torch.mm(columns, weight).reshape(n, dim, copies)
    return mixed.transpose(1, 2).reshape(n, copies * dim)


def _size(segments: Sequence[Segment]) -> int:
    return sum(s.mul * s.dim for s in segments)


def _copies(segments: Sequence[Segment]) -> int:
    return sum(s.mul for s in segments)
