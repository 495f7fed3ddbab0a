"""Linear maps and radial networks with every constant factor folded into the weights."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from irprune.irreps import IrrepsType
from irprune.layers.elements import mix
from irprune.ops.activations import function_named


class BlockLinear(nn.Module):
    """Σ over runs of equal irreps of x times one matrix: one product per irrep.

    ``groups`` are (first segment in, last, first segment out, last): contiguous segments of one
    irrep that are mixed by one matrix, zeros where there was no path.
    """

    def __init__(
        self,
        irreps_in: str,
        irreps_out: str,
        groups: tuple[tuple[int, int, int, int], ...],
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out, self.groups = irreps_in, irreps_out, groups
        self.inputs = IrrepsType.parse(irreps_in).segments
        self.outputs = IrrepsType.parse(irreps_out).segments
        self.weights = nn.ParameterList(
            nn.Parameter(
                torch.zeros(_copies(self.inputs[a : b + 1]), _copies(self.outputs[c : d + 1]))
            )
            for a, b, c, d in groups
        )
        """For each group [copies in, copies out]."""
        self.runs = _runs(len(self.inputs), [g[:2] for g in groups])
        self.sizes = [sum(s.mul * s.dim for s in self.inputs[a : b + 1]) for a, b in self.runs]
        dim = sum(s.mul * s.dim for s in self.outputs)
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None
        """[dim out], zero but for scalars."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim out] from x [N, dim in]."""
        pieces = dict(zip(self.runs, x.split(self.sizes, dim=1), strict=True))
        parts, at = [], 0
        for (a, b, c, d), weight in zip(self.groups, self.weights, strict=True):
            parts += [x.new_zeros(x.shape[0], s.mul * s.dim) for s in self.outputs[at:c]]
            parts.append(mix(pieces[a, b], weight, self.inputs[a].dim))
            at = d + 1
        parts += [x.new_zeros(x.shape[0], s.mul * s.dim) for s in self.outputs[at:]]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        return f"{self.irreps_in} -> {self.irreps_out}"


def _runs(count: int, used: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """All segments as runs (first, last) in order: those that are used, and the gaps between."""
    runs, at = [], 0
    for a, b in sorted(used):
        runs += [(at, a - 1)] * (at < a) + [(a, b)]
        at = b + 1
    return runs + [(at, count - 1)] * (at < count)


def _copies(segments: tuple[object, ...]) -> int:
    return sum(s.mul for s in segments)  # type: ignore[attr-defined]


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
