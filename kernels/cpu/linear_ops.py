"""Linear maps as a torch operator. The gradient by x is the map with transposed weights.

Gradients by weights, for training, are torch's own products, which torch differentiates again.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from irprune.backends import recall
from irprune.errors import UsageError
from irprune.kernels.cpu import linear as code
from irprune.kernels.cpu.compiler import library
from irprune.kernels.cpu.ops import CALLS, REAL, call
from irprune.kernels.operands import expect
from irprune.specs.linear import Product


@functools.cache
def _program(dtype: torch.dtype) -> ctypes.CDLL:
    return library(code.source(REAL[dtype]))


@dataclass(frozen=True)
class _Layout:
    """What the program is told of a spec, or of the transposed one."""

    given: int
    made: int
    """Numbers in a row of x, and of the result."""
    groups: Tensor
    """[groups, 5] int64, ``Group`` in the source."""
    gaps: bool
    """Whether there are columns of the result that no group has."""


@functools.cache
def _layout(key: str, transposed: bool) -> _Layout:
    spec, turn = recall(key), -1 if transposed else 1
    given, made = spec.dims[::turn]
    rows = [[*p.copies[::turn], p.dim, *p.columns[::turn]] for p in spec.products]
    gaps = sum(m * dim for _, m, dim, _, _ in rows) < made
    return _Layout(given, made, torch.tensor(rows, dtype=torch.int64), gaps)


def prepare(key: str) -> None:
    """Works out what the program is told, before something traces the Python that runs it."""
    _shapes(key)
    for transposed in (False, True):
        _layout(key, transposed)


@functools.cache
def _shapes(key: str) -> list[tuple[int, int]]:
    return [p.copies for p in recall(key).products]


def _linear(x: Tensor, weights: Sequence[Tensor], key: str, transposed: bool) -> Tensor:
    CALLS["block_linear"] += 1
    layout, shapes, n = _layout(key, transposed), _shapes(key), x.shape[0]
    if len(weights) != len(shapes):
        raise UsageError(
            f"block_linear: got {len(weights)} matrices, expected {len(shapes)}, one for each group"
        )
    named = {f"matrix {i}": pair for i, pair in enumerate(zip(weights, shapes, strict=True))}
    expect("block_linear", x, x=(x, (n, layout.given)), **named)
    x, weights = x.contiguous(), [w.contiguous() for w in weights]
    out = (x.new_zeros if layout.gaps else x.new_empty)(n, layout.made)
    table = (ctypes.c_void_p * len(weights))(*[w.data_ptr() for w in weights])
    call(_program(x.dtype).linear, n, layout.given, layout.made, len(weights), int(transposed),
         layout.groups, table, x, out)  # fmt: skip
    return out


@torch.library.custom_op("irprune::block_linear", mutates_args=(), device_types="cpu")
def block_linear(x: Tensor, weights: Sequence[Tensor], spec: str, transposed: bool) -> Tensor:
    """x [N, in], for each group [copies in, copies out] → [N, out]; transposed: [N, out] → [N, in]."""
    return _linear(x, weights, spec, transposed)


@block_linear.register_fake
def _(x: Tensor, weights: Sequence[Tensor], spec: str, transposed: bool) -> Tensor:
    return x.new_empty(x.shape[0], _layout(spec, transposed).made)


def _keep_linear(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weights, ctx.key, ctx.transposed = inputs
    ctx.save_for_backward(x, *weights)


def _gradients(
    ctx: Any, g: Tensor, by_x: bool, by_weights: Sequence[bool]
) -> tuple[Any, list[Any]]:
    """Gradients by x and by each matrix, None where not wanted."""
    x, *weights = ctx.saved_tensors
    gx = linear(g, weights, ctx.key, not ctx.transposed) if by_x else None
    first, second = (g, x) if ctx.transposed else (x, g)
    gw = [
        torch.mm(rows(first, 0, p).transpose(0, 1), rows(second, 1, p)) if wanted else None
        for p, wanted in zip(recall(ctx.key).products, by_weights, strict=True)
    ]
    return gx, gw


def _linear_gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    return (*_gradients(ctx, g, *ctx.needs_input_grad[:2]), None, None)


block_linear.register_autograd(_linear_gradient, setup_context=_keep_linear)


def rows(x: Tensor, side: int, p: Product) -> Tensor:
    """The part of a group, in x (0) or the result (1), one component of one atom per row."""
    part = x.narrow(1, p.columns[side], p.copies[side] * p.dim)
    if p.dim == 1:
        return part
    return part.reshape(-1, p.copies[side], p.dim).transpose(1, 2).reshape(-1, p.copies[side])


class _Linear(torch.autograd.Function):
    """``block_linear`` without torch's dispatcher, which takes longer than the map of a few atoms."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, key: str, transposed: bool, *weights: Tensor) -> Tensor:
        _keep_linear(ctx, (x, weights, key, transposed), None)
        return _linear(x, weights, key, transposed)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        by_x, _, _, *by_weights = ctx.needs_input_grad
        gx, gw = _gradients(ctx, g, by_x, by_weights)
        return gx, None, None, *gw


def linear(x: Tensor, weights: Sequence[Tensor], key: str, transposed: bool = False) -> Tensor:
    """``block_linear``, by the operator only where something watches or transforms operators."""
    if _watched(x):
        made: Tensor = block_linear(x, list(weights), key, transposed)
    else:
        made = _Linear.apply(x, key, transposed, *weights)
    return made


def _watched(x: Tensor) -> bool:
    """Whether a compiler, a dispatch mode or a transform is at work, or x is no plain tensor."""
    return (
        torch.compiler.is_compiling()
        or type(x) not in (Tensor, torch.nn.Parameter)
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )
