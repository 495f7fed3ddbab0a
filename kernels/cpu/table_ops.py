"""Tables as torch operators, closed under differentiation: the slope of a table is a table again."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from irprune.backends import recall
from irprune.errors import UsageError
from irprune.kernels.cpu import table as code
from irprune.kernels.cpu.compiler import library
from irprune.kernels.cpu.ops import CALLS, REAL, call
from irprune.kernels.operands import expect, keep


@functools.cache
def _program(degree: int, order: int, dtype: torch.dtype) -> ctypes.CDLL:
    return library(code.source(degree, order, REAL[dtype]))


@functools.cache
def _pieces(key: str) -> Tensor:
    return torch.tensor(recall(key).pieces, dtype=torch.float64)


def _run(
    where: str, r: Tensor, table: Tensor, which: Tensor | None, key: str, order: int, *rest: Tensor
) -> None:
    CALLS[where] += 1
    spec, n = recall(key), r.shape[0]
    shape = (spec.tables, spec.intervals, spec.degree + 1, spec.width)
    expect(where, r, r=(r, (n,)), table=(table, shape))
    spec.check_range(r)
    if which is not None:
        if which.dtype is not torch.int64 or which.shape != r.shape:
            raise UsageError(
                f"{where}: the numbers of the tables are {which.dtype} of shape"
                f" {tuple(which.shape)}, expected int64 of shape {tuple(r.shape)}"
            )
        if n and not 0 <= int(which.min()) <= int(which.max()) < spec.tables:
            raise UsageError(
                f"{where}: tables {int(which.min())} to {int(which.max())} are asked for, but there"
                f" are {spec.tables}"
            )
    program = _program(spec.degree, order, r.dtype)
    pieces = _pieces(key)
    call(
        program.dot if where == "table_dot" else program.rows,
        n,
        spec.width,
        spec.intervals,
        spec.tables,
        len(spec.pieces),
        pieces,
        r.contiguous(),
        None if which is None else which.contiguous(),
        table.contiguous(),
        *rest,
    )


@torch.library.custom_op("irprune::table_rows", mutates_args=(), device_types="cpu")
def table_rows(r: Tensor, table: Tensor, which: Tensor | None, spec: str, order: int) -> Tensor:
    """Derivatives of an order by r [rows] → [rows, width]."""
    found = recall(spec)
    out = r.new_empty(r.shape[0], found.width)
    if order > found.degree:
        return out.zero_()
    _run("table_rows", r, table, which, spec, order, out)
    return out


@table_rows.register_fake
def _(r: Tensor, table: Tensor, which: Tensor | None, spec: str, order: int) -> Tensor:
    return r.new_empty(r.shape[0], recall(spec).width)


@torch.library.custom_op("irprune::table_dot", mutates_args=(), device_types="cpu")
def table_dot(
    r: Tensor, g: Tensor, table: Tensor, which: Tensor | None, spec: str, order: int
) -> Tensor:
    """Σ over the width of g [rows, width] times ``table_rows`` → [rows]."""
    found = recall(spec)
    expect("table_dot", r, g=(g, (r.shape[0], found.width)))
    out = torch.empty_like(r, memory_format=torch.contiguous_format)
    if order > found.degree:
        return out.zero_()
    _run("table_dot", r, table, which, spec, order, g.contiguous(), out)
    return out


@table_dot.register_fake
def _(r: Tensor, g: Tensor, table: Tensor, which: Tensor | None, spec: str, order: int) -> Tensor:
    return r.new_empty(r.shape)


def _rows_gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    r, table, *which = ctx.saved_tensors
    key, order = (x for x in ctx.rest if x is not None)
    _refuse_table(ctx.needs_input_grad[1])
    return (table_dot(r, g, table, which[0] if which else None, key, order + 1), *[None] * 4)


def _dot_gradient(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    r, g, table, *which = ctx.saved_tensors
    key, order = (x for x in ctx.rest if x is not None)
    _refuse_table(ctx.needs_input_grad[2])
    chosen = which[0] if which else None
    by_r = v * table_dot(r, g, table, chosen, key, order + 1)
    by_g = v.unsqueeze(1) * table_rows(r, table, chosen, key, order)
    return (by_r, by_g, *[None] * 4)


def _refuse_table(wanted: bool) -> None:
    if wanted:
        raise UsageError("a tabulated radial network cannot be trained; tabulate it afterwards")


table_rows.register_autograd(_rows_gradient, setup_context=keep)
table_dot.register_autograd(_dot_gradient, setup_context=keep)
