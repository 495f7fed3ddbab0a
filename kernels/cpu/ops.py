"""The compiled kernels as torch operators: fake tensors, autograd, and derivatives of derivatives.

A convolution is linear in each of x, y and w, so every derivative of it is the convolution or its
backward again with some operands replaced. A polynomial has programs for its first and second
derivatives; third ones are not needed and are refused.
"""

from __future__ import annotations

import ctypes
import functools
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from irprune.backends import recall
from irprune.errors import UsageError
from irprune.kernels.cpu import convolution as convolution_code
from irprune.kernels.cpu import polynomial as polynomial_code
from irprune.kernels.cpu.compiler import library
from irprune.kernels.operands import expect, expect_convolution, expect_rows, keep

CALLS: Counter[str] = Counter()
"""How often each compiled program ran: what proves in tests which kernel served."""

REAL = {torch.float32: "float", torch.float64: "double"}


@functools.cache
def _convolution(key: str, dtype: torch.dtype) -> ctypes.CDLL:
    return library(convolution_code.source(recall(key), REAL[dtype]))


@functools.cache
def _polynomial(key: str, dtype: torch.dtype, order: int) -> ctypes.CDLL:
    return library(polynomial_code.source(recall(key), REAL[dtype], order))


def call(function: Any, *arguments: Tensor | int | ctypes.Array[Any] | None) -> None:
    """Calls C with the addresses of tensors; all must be contiguous."""
    given: list[Any] = []
    for a in arguments:
        if isinstance(a, Tensor):
            assert a.is_contiguous()
            given.append(ctypes.c_void_p(a.data_ptr()))
        elif isinstance(a, ctypes.Array):
            given.append(a)
        else:
            given.append(ctypes.c_void_p(None) if a is None else ctypes.c_int64(a))
    function(*given, ctypes.c_int(torch.get_num_threads()))


@torch.library.custom_op("irprune::convolution", mutates_args=(), device_types="cpu")
def convolution(x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str) -> Tensor:
    """x [N, in1], y [E, in2], w [rows, weights] → [N, out]."""
    CALLS["convolution"] += 1
    found = recall(spec)
    n, x = x.shape[0], x.contiguous()
    expect_convolution("convolution", found, x, y, w, edges)
    expect_rows("convolution", edges, y.shape[0], w.shape[0])
    out = x.new_empty(n, found.dims[2])
    program = _convolution(spec, x.dtype)
    call(program.forward, n, y.shape[0], x, y.contiguous(), w.contiguous(), edges, out,
          torch.empty_like(x))  # fmt: skip
    return out


@convolution.register_fake
def _(x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str) -> Tensor:
    return x.new_empty(x.shape[0], recall(spec).dims[2])


@torch.library.custom_op("irprune::convolution_backward", mutates_args=(), device_types="cpu")
def convolution_backward(
    g: Tensor, x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str, with_x: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of Σ g · convolution by x (zero-sized without ``with_x``), y and w."""
    CALLS["convolution_backward"] += 1
    n, count, x, g, w = x.shape[0], y.shape[0], x.contiguous(), g.contiguous(), w.contiguous()
    found = recall(spec)
    expect_convolution("convolution_backward", found, x, y, w, edges)
    expect_rows("convolution_backward", edges, count, w.shape[0])
    expect("convolution_backward", x, g=(g, (n, found.dims[2])))
    gx = torch.empty_like(x) if with_x else x.new_empty(0)
    gy = torch.empty_like(y, memory_format=torch.contiguous_format)
    # every row that an edge uses is written; where there are others, they are zero
    used = int(edges[edges.shape[0] - count :].sum())
    gw = torch.empty_like(w) if used == w.shape[0] else torch.zeros_like(w)
    # two edges that share a row of weights may belong to two threads
    second = None
    if torch.get_num_threads() > 1 and w.shape[0] < count:
        second = torch.zeros_like(w)
    program = _convolution(spec, x.dtype)
    call(program.backward, n, count, x, y.contiguous(), w, edges, g, gx if with_x else None, gy,
          gw, second, torch.empty_like(x), torch.empty_like(g))  # fmt: skip
    return gx, gy, gw if second is None else gw.add_(second)


@convolution_backward.register_fake
def _(
    g: Tensor, x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str, with_x: bool
) -> tuple[Tensor, Tensor, Tensor]:
    gx = x.new_empty(x.shape) if with_x else x.new_empty(0)
    return gx, y.new_empty(y.shape), w.new_empty(w.shape)


def _convolution_gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, y, w, edges = ctx.saved_tensors
    need = ctx.needs_input_grad
    gx, gy, gw = convolution_backward(g, x, y, w, edges, ctx.rest[0], need[0])
    return gx if need[0] else None, gy if need[1] else None, gw if need[2] else None, None, None


convolution.register_autograd(_convolution_gradient, setup_context=keep)


def _convolution_second(ctx: Any, ax: Tensor, ay: Tensor, aw: Tensor) -> tuple[Any, ...]:
    """Gradient of ⟨ax, gx⟩ + ⟨ay, gy⟩ + ⟨aw, gw⟩ = ⟨g, C(ax,y,w) + C(x,ay,w) + C(x,y,aw)⟩."""
    g, x, y, w, edges = ctx.saved_tensors
    key, with_x = ctx.rest
    back = functools.partial(convolution_backward, edges=edges, spec=key, with_x=True)
    hg = convolution(x, ay, w, edges, key) + convolution(x, y, aw, edges, key)
    hx1, _, hw1 = back(g, x, ay, w)
    hx2, hy1, _ = back(g, x, y, aw)
    hx, hy, hw = hx1 + hx2, hy1, hw1
    if with_x:
        hg = hg + convolution(ax, y, w, edges, key)
        _, hy2, hw2 = back(g, ax, y, w)
        hy, hw = hy + hy2, hw + hw2
    return hg, hx, hy, hw, None, None, None


convolution_backward.register_autograd(_convolution_second, setup_context=keep)


def _expect_polynomial(where: str, spec: Any, x: Tensor, w: Tensor, **more: Tensor) -> None:
    n, k = x.shape[0], spec.channels
    rows, weights = (n, spec.dims[0] * k), (n, spec.n_paths, k)
    shapes = {"x": rows, "ax": rows, "w": weights, "aw": weights, "g": (n, spec.dims[1] * k)}
    given = {"x": x, "w": w, **more}
    expect(where, x, **{name: (t, shapes[name]) for name, t in given.items()})


@torch.library.custom_op("irprune::polynomial", mutates_args=(), device_types="cpu")
def polynomial(x: Tensor, w: Tensor, spec: str) -> Tensor:
    """x [N, inputs], w [N, paths, K] → [N, outputs]."""
    CALLS["polynomial"] += 1
    found = recall(spec)
    _expect_polynomial("polynomial", found, x, w)
    out = x.new_empty(x.shape[0], found.dims[1] * found.channels)
    call(_polynomial(spec, x.dtype, 0).run, x.shape[0], x.contiguous(), w.contiguous(), out)
    return out


@polynomial.register_fake
def _(x: Tensor, w: Tensor, spec: str) -> Tensor:
    found = recall(spec)
    return x.new_empty(x.shape[0], found.dims[1] * found.channels)


@torch.library.custom_op("irprune::polynomial_backward", mutates_args=(), device_types="cpu")
def polynomial_backward(g: Tensor, x: Tensor, w: Tensor, spec: str) -> tuple[Tensor, Tensor]:
    """Gradients of Σ g · polynomial by x and w."""
    CALLS["polynomial_backward"] += 1
    _expect_polynomial("polynomial_backward", recall(spec), x, w, g=g)
    x, w, g = x.contiguous(), w.contiguous(), g.contiguous()
    gx, gw = torch.empty_like(x), torch.empty_like(w)
    call(_polynomial(spec, x.dtype, 1).run, x.shape[0], x, w, g, gx, gw)
    return gx, gw


@polynomial_backward.register_fake
def _(g: Tensor, x: Tensor, w: Tensor, spec: str) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), w.new_empty(w.shape)


def _polynomial_gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, w = ctx.saved_tensors
    gx, gw = polynomial_backward(g, x, w, ctx.rest[0])
    return gx, gw, None


polynomial.register_autograd(_polynomial_gradient, setup_context=keep)


@torch.library.custom_op("irprune::polynomial_second", mutates_args=(), device_types="cpu")
def polynomial_second(
    ax: Tensor, aw: Tensor, g: Tensor, x: Tensor, w: Tensor, spec: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ⟨ax, gx⟩ + ⟨aw, gw⟩ by g, x and w."""
    CALLS["polynomial_second"] += 1
    _expect_polynomial("polynomial_second", recall(spec), x, w, g=g, ax=ax, aw=aw)
    given = [a.contiguous() for a in (x, w, g, ax, aw)]
    made = [torch.empty_like(a) for a in (given[2], given[0], given[1])]
    call(_polynomial(spec, x.dtype, 2).run, x.shape[0], *given, *made)
    return made[0], made[1], made[2]


@polynomial_second.register_fake
def _(
    ax: Tensor, aw: Tensor, g: Tensor, x: Tensor, w: Tensor, spec: str
) -> tuple[Tensor, Tensor, Tensor]:
    return g.new_empty(g.shape), x.new_empty(x.shape), w.new_empty(w.shape)


def _polynomial_second(ctx: Any, ax: Tensor, aw: Tensor) -> tuple[Any, ...]:
    g, x, w = ctx.saved_tensors
    return (*polynomial_second(ax, aw, g, x, w, ctx.rest[0]), None)


polynomial_backward.register_autograd(_polynomial_second, setup_context=keep)


def _no_third(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    raise UsageError(
        "third derivatives of a compiled polynomial are not available; set the module's backend to"
        " 'reference' for them"
    )


polynomial_second.register_autograd(_no_third)
