"""LinearSpec: a linear map of irreps with one matrix per run of equal irreps, as a value."""

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


@dataclass(frozen=True)
class Product:
    """One matrix product of a LinearSpec: ``copies`` (in, out) of an irrep of ``dim`` components.

    ``columns`` are the first ones of its part of a row of x and of the result, in either layout.
    """

    copies: tuple[int, int]
    dim: int
    columns: tuple[int, int]


@dataclass(frozen=True)
class LinearSpec(Keyed):
    """out[v, m] = Σ over u of x[u, m] w[u, v] for each group, zeros in segments of no group.

    ``groups`` are (first segment in, last, first segment out, last): contiguous segments of one
    irrep that are mixed by one matrix [copies in, copies out]. Values are flat rows: x [rows, in],
    result [rows, out].
    """

    irreps_in: str
    irreps_out: str
    groups: tuple[tuple[int, int, int, int], ...]
    layout: Layout = Layout.MUL_IR
    """Of x and of the result."""

    __hash__ = Keyed.__hash__

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", flat_layout(self.layout))

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

        if self.layout is Layout.IR_MUL:
            return self._by_component(x, weights)
        pieces = dict(zip(self._runs, x.split(self._sizes, dim=1), strict=True))
        parts, at = [], 0
        for (a, b, c, d), weight in zip(self.groups, weights, strict=True):
            parts += [x.new_zeros(x.shape[0], s.mul * s.dim) for s in self.outputs[at:c]]
            parts.append(mix(pieces[a, b], weight, self.inputs[a].dim))
            at = d + 1
        parts += [x.new_zeros(x.shape[0], s.mul * s.dim) for s in self.outputs[at:]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _by_component(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """``evaluate`` in ``ir_mul``: matrix products of the columns as they lie.

        The copies of a component are columns side by side, so nothing is permuted: the result is
        put together once.
        """
        import torch

        starts = [_size(self.inputs[:i]) for i in range(len(self.inputs))]
        parts: list[list[Tensor]] = [[] for _ in self.outputs]
        for (a, b, c, d), weight in zip(self.groups, weights, strict=True):
            mixed: Tensor | None = None
            rows = weight.split([s.mul for s in self.inputs[a : b + 1]])
            for i, own in zip(range(a, b + 1), rows, strict=True):
                s = self.inputs[i]
                columns = x[:, starts[i] : starts[i] + s.mul * s.dim].unflatten(1, (s.dim, s.mul))
                term = (columns.transpose(0, 1), own.expand(s.dim, *own.shape))
                mixed = torch.bmm(*term) if mixed is None else torch.baddbmm(mixed, *term)
            assert mixed is not None  # [dim, rows, copies]
            pieces = mixed.split([s.mul for s in self.outputs[c : d + 1]], dim=2)
            for o, piece in zip(range(c, d + 1), pieces, strict=True):
                parts[o] = list(piece.unbind(0))
        for s, found in zip(self.outputs, parts, strict=True):
            if not found:
                found.append(x.new_zeros(x.shape[0], s.mul * s.dim))
        flat = [piece for found in parts for piece in found]
        return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)

    def split_as(self, irreps_in: str) -> LinearSpec:
        """The same map of a row with the same units in other segments.

        Raises:
            UsageError: other units, or a segment that reaches into two groups.
        """
        whole = IrrepsType.parse(irreps_in)
        if whole.unit_irs != IrrepsType(self.inputs).unit_irs:
            raise UsageError(f"{irreps_in} and {self.irreps_in} are not the same irreps in a row")
        ends = [_copies(whole.segments[: i + 1]) for i in range(len(whole.segments))]
        groups = []
        for a, b, c, d in self.groups:
            start, stop = _copies(self.inputs[:a]), _copies(self.inputs[: b + 1])
            first = [i for i, e in enumerate(ends) if e - whole.segments[i].mul == start]
            last = [i for i, e in enumerate(ends) if e == stop]
            if not first or not last:
                raise UsageError(f"a segment of {irreps_in} reaches into two groups of {self}")
            groups.append((first[-1], last[0], c, d))
        return replace(self, irreps_in=irreps_in, groups=tuple(groups))

    def in_layout(self, layout: Layout) -> LinearSpec:
        """The same map of rows in another layout."""
        return replace(self, layout=layout)

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
            **layout_json(self.layout),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LinearSpec:
        first, second = value["irreps"]
        groups = tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in value["groups"])
        return cls(str(first), str(second), groups, layout_of(value))

    def __str__(self) -> str:
        sizes = ", ".join(f"{p.copies[0]}x{p.copies[1]} (dim {p.dim})" for p in self.products)
        how = layout_text(self.layout)
        return (
            f"{self.irreps_in} -> {self.irreps_out}{how}, {self.key}\n  matrices {sizes or 'none'}"
        )


def mix(x: Tensor, weight: Tensor, dim: int, ir_mul: bool = False) -> Tensor:
    """Copies of one irrep mixed: [N, mul·dim] and [mul, copies] → [N, copies·dim]."""
    import torch

    if dim == 1:
        return torch.mm(x, weight)
    n, (mul, copies) = x.shape[0], weight.shape
    if ir_mul:
        return torch.mm(x.reshape(n * dim, mul), weight).reshape(n, dim * copies)
    columns = x.reshape(n, mul, dim).transpose(1, 2).reshape(n * dim, mul)
    mixed = torch.mm(columns, weight).reshape(n, dim, copies)
    return mixed.transpose(1, 2).reshape(n, copies * dim)


def _size(segments: Sequence[Segment]) -> int:
    return sum(s.mul * s.dim for s in segments)


def _copies(segments: Sequence[Segment]) -> int:
    return sum(s.mul for s in segments)
