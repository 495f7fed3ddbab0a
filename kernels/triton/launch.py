"""Launches of the convolution kernels: rows in ``ir_mul``, a Config, and a count of what ran.

A convolution T(g, x, y, w) = ⟨g, C(x, y, w)⟩ is linear in each operand. Three launches are enough for
derivatives of any order: C itself, its gradient by features, and that by harmonics and weights.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from irprune.edges import EdgeLists, unpack
from irprune.kernels.triton.config import Config
from irprune.kernels.triton.convolution import touched
from irprune.kernels.triton.source import Source, accumulator, index_by_name, sources
from irprune.specs.path import PathSpec

LAUNCHES: Counter[str] = Counter()
"""How often each kernel ran, by name and variant: what proves in tests which one served."""


def start(source: Source, variant: str, programs: int, *operands: Tensor) -> None:
    """Runs one kernel on ``programs`` nodes, edges or rows; nothing to do is no launch.

    Triton launches on the current device, so that of the operands is made current.
    """
    if programs == 0:
        return
    LAUNCHES[f"{source.name} {variant}"] += 1
    with torch.cuda.device_of(operands[0]):
        source.fn[(programs, source.blocks)](*operands, **source.constexprs, **source.options)


def convolution(
    x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: PathSpec, config: Config
) -> Tensor:
    """x [N, in1], y [E, in2], w [rows, weights] → [N, out]."""
    lists = unpack(edges, x.shape[0])
    walked = (lists.by_receiver, lists.receiver_ends, lists.sender, lists.receiver)
    size = (spec.dims[2], touched(spec)[0])
    return _walk("forward", x, y, w, lists, walked, spec, config, size)


def features(
    g: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: PathSpec, config: Config
) -> Tensor:
    """Gradient by features: g [N, out], y [E, in2], w [rows, weights] → [N, in1]."""
    lists = unpack(edges, g.shape[0])
    walked = (lists.by_sender, lists.sender_ends, lists.receiver, lists.sender)
    size = (spec.dims[0], touched(spec)[1])
    return _walk("features", g, y, w, lists, walked, spec, config, size)


def _walk(
    name: str, source: Tensor, y: Tensor, w: Tensor, lists: EdgeLists,
    walked: tuple[Tensor, Tensor, Tensor, Tensor], spec: PathSpec, config: Config,
    size: tuple[int, int],
) -> Tensor:  # fmt: skip
    """Rows of ``size[0]`` numbers, of which the kernels write ``size[1]``; the others are zero."""
    n, (full, written) = source.shape[0], size
    order, ends, other, own = walked
    given = (source.contiguous(), y.contiguous(), w.contiguous())
    if config.variant == "csr":
        target = source.new_empty(n, full) if written == full else source.new_zeros(n, full)
        programs, indices = n, [order, ends, other, lists.row]
    else:
        target = source.new_zeros(n, full, dtype=accumulator(source.dtype))
        programs, indices = y.shape[0], [own, other, lists.row]
    for kernel in sources(spec, config, source.dtype):
        if kernel.name.startswith(name):
            start(kernel, config.variant, programs, *given, target, *indices)
    return target.to(source.dtype)


def edge_gradients(
    g: Tensor, x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: PathSpec, config: Config
) -> tuple[Tensor, Tensor]:
    """Gradients by harmonics [E, in2] and weights [rows, weights].

    The first does not depend on y, the second not on w.
    """
    found = index_by_name(sources(spec, config, x.dtype))
    if not found:
        return torch.zeros_like(y), torch.zeros_like(w)
    lists = unpack(edges, x.shape[0])
    count, rows = y.shape[0], w.shape[0]
    slots = edges_of_rows(lists, rows)
    gy = y.new_empty(y.shape)
    # two edges of a row are added in memory: in the dtype of sums
    gw = w.new_empty(w.shape, dtype=w.dtype if rows == count else accumulator(w.dtype))
    given = (t.contiguous() for t in (x, y, w, g))
    start(found["edges"], config.variant, rows, *given, gy, gw, slots, lists.sender, lists.receiver)
    return gy, gw.to(w.dtype)


def edges_of_rows(lists: EdgeLists, rows: int) -> Tensor:
    """[rows, 2]: the edges that use each row of weights, −1 where there is none."""
    slots = lists.row.new_full((rows * 2,), -1)
    place = torch.arange(lists.row.shape[0], device=lists.row.device)
    return slots.scatter_(0, lists.row * 2 + (1 - lists.first), place)
