"""The coefficients of a PathSpec as tensors: made on the host, copied once to a device and dtype.

Written there number by number, they would be hundreds of copies in every call of the reference.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from irprune.specs.path import PathSpec

MOST = 512
"""Tables that are kept, of a few kB each; beyond, all are forgotten."""
_KEPT: dict[tuple[str, torch.device, torch.dtype], tuple[Tensor, ...]] = {}


def tables(spec: PathSpec, like: Tensor) -> tuple[Tensor, ...]:
    """C [2 l1 + 1, 2 l2 + 1, 2 l3 + 1] of every path, on the device and in the dtype of ``like``.

    They are shared by all calls and must not be changed. Where a graph is captured, they are made
    anew and become a part of it.
    """
    if torch.compiler.is_compiling() or type(like) not in (torch.Tensor, torch.nn.Parameter):
        return _made(spec, like.device, like.dtype)
    where = (spec.key, like.device, like.dtype)
    found = _KEPT.get(where)
    if found is None:
        # what is made in inference mode can never take part in a gradient
        with torch.inference_mode(False):
            found = _made(spec, like.device, like.dtype)
        if all(type(t) is torch.Tensor for t in found):
            if len(_KEPT) >= MOST:
                _KEPT.clear()
            _KEPT[where] = found
    return found


def _made(spec: PathSpec, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    shapes = [(spec.in1[p.i1].dim, spec.in2[p.i2].dim, spec.out[p.out].dim) for p in spec.paths]
    sizes = [a * b * c for a, b, c in shapes]
    numbers = [0.0] * sum(sizes)
    starts = accumulate(sizes, initial=0)
    for p, (_, b, c), start in zip(spec.paths, shapes, starts, strict=False):
        for m1, m2, m3, value in p.coupling:
            numbers[start + (m1 * b + m2) * c + m3] = value
    flat = torch.tensor(numbers, dtype=torch.float64, device="cpu").to(device, dtype)
    return tuple(t.view(s) for t, s in zip(flat.split(sizes), shapes, strict=True))
