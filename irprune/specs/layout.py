"""Flat rows in ``mul_ir`` and ``ir_mul``: how specs say which one is theirs, and the way between them.

In ``mul_ir`` the components of one copy lie side by side, in ``ir_mul`` the copies of one component of
a segment. Conversions are torch operators, so autograd and torch.compile see through them; rows of
scalars are alike in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from irprune.irreps import Layout, Segment, flat_layout

if TYPE_CHECKING:
    from torch import Tensor


def layout_json(layout: Layout) -> dict[str, str]:
    """How the JSON of a spec says its layout: not at all for ``mul_ir``, as before there were two."""
    return {} if layout is Layout.MUL_IR else {"layout": layout.value}


def layout_of(value: Mapping[str, Any]) -> Layout:
    """The layout that the JSON of a spec says.

    Raises:
        UsageError: it is not known.
    """
    return flat_layout(value.get("layout", Layout.MUL_IR))


def layout_text(layout: Layout) -> str:
    """How the text of a spec says its layout."""
    return "" if layout is Layout.MUL_IR else f" in {layout.value}"


def to_ir_mul(x: Tensor, segments: Sequence[Segment]) -> Tensor:
    """[N, Σ mul·dim] from ``mul_ir`` to ``ir_mul``."""
    return _exchange(x, [(s.mul, s.dim) for s in segments])


def to_mul_ir(x: Tensor, segments: Sequence[Segment]) -> Tensor:
    """[N, Σ mul·dim] from ``ir_mul`` to ``mul_ir``."""
    return _exchange(x, [(s.dim, s.mul) for s in segments])


def _exchange(x: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    import torch

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
