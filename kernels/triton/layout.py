"""Rows of irreps in the layout of the kernels, and back.

A flat row is ``mul_ir``: the components of one channel lie side by side. Kernels want ``ir_mul``:
within a segment, the channels of one component do. Both conversions are torch operators, so autograd
and torch.compile see through them; rows of scalars are alike in both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from irprune.irreps import Segment


def to_ir_mul(x: Tensor, segments: Sequence[Segment]) -> Tensor:
    """[N, Σ mul·dim] from ``mul_ir`` to ``ir_mul``."""
    return _exchange(x, [(s.mul, s.dim) for s in segments])


def to_mul_ir(x: Tensor, segments: Sequence[Segment]) -> Tensor:
    """[N, Σ mul·dim] from ``ir_mul`` to ``mul_ir``."""
    return _exchange(x, [(s.dim, s.mul) for s in segments])


def _exchange(x: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    if all(1 in shape for shape in shapes):
        return x
    parts = x.split([a * b for a, b in shapes], dim=1)
    return torch.cat(
        [
            p.unflatten(1, shape).transpose(1, 2).flatten(1)
            for p, shape in zip(parts, shapes, strict=True)
        ],
        dim=1,
    )
