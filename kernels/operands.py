"""What compiled kernels do with operands before and after: check what they would read, keep them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from irprune.errors import UsageError
from irprune.specs.path import PathSpec


def expect(where: str, like: Tensor, **given: tuple[Tensor, tuple[int, ...]]) -> None:
    """Refuses what a program would read beyond, or read as another dtype.

    Raises:
        UsageError: a tensor of another dtype, device or shape; names it.
    """
    for name, (tensor, shape) in given.items():
        if tensor.dtype is not like.dtype or tensor.device != like.device:
            raise UsageError(
                f"{where}: {name} is {tensor.dtype} on {tensor.device}, expected {like.dtype} on"
                f" {like.device} as its first operand has"
            )
        if tuple(tensor.shape) != shape:
            raise UsageError(f"{where}: {name} has shape {tuple(tensor.shape)}, expected {shape}")


def expect_edges(where: str, edges: Tensor, n: int, count: int) -> None:
    """Refuses what ``irprune.edges.pack`` did not make for so many atoms and edges.

    Raises:
        UsageError: another dtype or length.
    """
    if edges.dtype is not torch.int64 or edges.shape != (6 * count + 2 * (n + 1),):
        raise UsageError(
            f"{where}: edges are {edges.dtype} of shape {tuple(edges.shape)}, expected int64 and"
            f" {6 * count + 2 * (n + 1)} entries for {n} atoms and {count} edges"
            " (irprune.edges.pack)"
        )


def expect_rows(where: str, edges: Tensor, count: int, rows: int) -> None:
    """Refuses edges that use a row of weights which is not there. Reads the tensor: waits for a GPU.

    Raises:
        UsageError: the largest row is beyond the weights.
    """
    used = edges[2 * count : 3 * count]
    if count and int(used.max()) >= rows:
        raise UsageError(
            f"{where}: an edge uses row {int(used.max())} of weights, but there are {rows}"
        )


def expect_convolution(
    where: str, spec: PathSpec, x: Tensor, y: Tensor, w: Tensor, edges: Tensor
) -> None:
    """Refuses operands of a convolution that do not fit its spec, but for the rows of weights.

    Raises:
        UsageError: names the operand.
    """
    n, count = x.shape[0], y.shape[0]
    expect(
        where,
        x,
        x=(x, (n, spec.dims[0])),
        y=(y, (count, spec.dims[1])),
        w=(w, (w.shape[0], spec.n_weights)),
    )
    expect_edges(where, edges, n, count)


def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keeps the tensors among the inputs of an operator, and beside them the rest."""
    tensors = [a for a in inputs if isinstance(a, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.rest = tuple(a for a in inputs if not isinstance(a, Tensor))


def refuse_tangents(*tensors: Tensor) -> None:
    """Compiled kernels have reverse derivatives only; torch would drop a tangent silently.

    Raises:
        UsageError: forward-mode differentiation reaches a kernel.
    """
    if forward_ad._current_level < 0:
        return
    if any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        raise UsageError(
            "compiled kernels have no forward-mode derivatives; set the module's backend to"
            " 'reference' for them"
        )
