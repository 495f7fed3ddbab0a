"""The Triton polynomials as torch operators: fake tensors, autograd, first and second derivatives.

Rows are ``ir_mul``: with one channel count that is [components, channels]. ``which`` names the row of
weights of each node, so that weights by element are read where they lie.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from irprune.backends import recall
from irprune.errors import UsageError
from irprune.kernels.operands import expect, keep
from irprune.kernels.triton.config import Config
from irprune.kernels.triton.launch import start
from irprune.kernels.triton.source import accumulator, index_by_name, sources
from irprune.specs.poly import PolySpec
from irprune.waiting import would_wait


def _run(
    name: str, spec: str, config: str, x: Tensor, w: Tensor, which: Tensor, *operands: Tensor
) -> None:
    """Runs the program ``name``; ``operands`` are what it reads and writes beside x and w."""
    layout = Config.parse(config)
    source = index_by_name(sources(recall(spec), layout, x.dtype))[name]
    start(source, layout.variant, x.shape[0], x, w, *operands, which)


def _expect(where: str, x: Tensor, w: Tensor, which: Tensor, spec: str, **more: Tensor) -> PolySpec:
    """Refuses operands that do not fit.

    Raises:
        UsageError: names the operand; on the CPU also of rows of weights that are not there.
    """
    found: PolySpec = recall(spec)
    n, k = x.shape[0], found.channels
    rows, weights = (n, found.dims[0] * k), (w.shape[0], found.n_paths, k)
    shapes = {"x": rows, "ax": rows, "w": weights, "aw": weights, "g": (n, found.dims[1] * k)}
    given = {"x": x, "w": w, **more}
    expect(where, x, **{name: (t, shapes[name]) for name, t in given.items()})
    if which.dtype is not torch.int64 or which.shape != (n,) or which.device != x.device:
        raise UsageError(
            f"{where}: rows of weights are {which.dtype} of shape {tuple(which.shape)} on"
            f" {which.device}, expected int64 of shape {(n,)} on {x.device}"
        )
    if not would_wait(x) and n and not 0 <= int(which.min()) <= int(which.max()) < w.shape[0]:
        raise UsageError(
            f"{where}: nodes use rows {int(which.min())} to {int(which.max())} of weights, but"
            f" there are {w.shape[0]}"
        )
    return found


def _sum_rows(w: Tensor, which: Tensor, made: Tensor) -> Tensor:
    """Gradients of the rows of weights, of those of every node."""
    out = w.new_zeros(w.shape, dtype=made.dtype)
    return out.index_add_(0, which, made).to(w.dtype)


@torch.library.custom_op("irprune::triton_polynomial", mutates_args=())
def polynomial(x: Tensor, w: Tensor, which: Tensor, spec: str, config: str) -> Tensor:
    """x [N, inputs], w [rows, paths, K], which [N] → [N, outputs]."""
    found = _expect("triton_polynomial", x, w, which, spec)
    out = x.new_empty(x.shape[0], found.dims[1] * found.channels)
    _run("values", spec, config, x.contiguous(), w.contiguous(), which.contiguous(), out)
    return out


@polynomial.register_fake
def _(x: Tensor, w: Tensor, which: Tensor, spec: str, config: str) -> Tensor:
    found = recall(spec)
    return x.new_empty(x.shape[0], found.dims[1] * found.channels)


@torch.library.custom_op("irprune::triton_polynomial_backward", mutates_args=())
def polynomial_backward(
    g: Tensor, x: Tensor, w: Tensor, which: Tensor, spec: str, config: str, with_w: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of Σ g · polynomial by x, and by w (zero-sized without ``with_w``)."""
    found = _expect("triton_polynomial_backward", x, w, which, spec, g=g)
    x, w, which, g = x.contiguous(), w.contiguous(), which.contiguous(), g.contiguous()
    gx = x.new_empty(x.shape)
    if not with_w:
        _run("first_x", spec, config, x, w, which, g, gx)
        return gx, w.new_empty(0)
    gw = w.new_empty(x.shape[0], found.n_paths, found.channels, dtype=accumulator(w.dtype))
    _run("first_xw", spec, config, x, w, which, g, gx, gw)
    return gx, _sum_rows(w, which, gw)


@polynomial_backward.register_fake
def _(
    g: Tensor, x: Tensor, w: Tensor, which: Tensor, spec: str, config: str, with_w: bool
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), w.new_empty(w.shape if with_w else (0,))


@torch.library.custom_op("irprune::triton_polynomial_second", mutates_args=())
def polynomial_second(
    ax: Tensor, aw: Tensor, g: Tensor, x: Tensor, w: Tensor, which: Tensor, spec: str,
    config: str, with_w: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of ⟨ax, gx⟩ + ⟨aw, gw⟩ by g, x and w; without ``with_w`` of ⟨ax, gx⟩ by g and x."""
    more = {"aw": aw} if with_w else {}
    found = _expect("triton_polynomial_second", x, w, which, spec, g=g, ax=ax, **more)
    x, w, which, g, ax = (t.contiguous() for t in (x, w, which, g, ax))
    hg, hx = g.new_empty(g.shape), x.new_empty(x.shape)
    if not with_w:
        _run("second_x", spec, config, x, w, which, g, ax, hg, hx)
        return hg, hx, w.new_empty(0)
    hw = w.new_empty(x.shape[0], found.n_paths, found.channels, dtype=accumulator(w.dtype))
    _run("second_xw", spec, config, x, w, which, g, ax, aw.contiguous(), hg, hx)
    _run("second_w", spec, config, x, w, which, g, ax, hw)
    return hg, hx, _sum_rows(w, which, hw)


@polynomial_second.register_fake
def _(
    ax: Tensor, aw: Tensor, g: Tensor, x: Tensor, w: Tensor, which: Tensor, spec: str,
    config: str, with_w: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return g.new_empty(g.shape), x.new_empty(x.shape), w.new_empty(w.shape if with_w else (0,))


def _polynomial_gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, w, which = ctx.saved_tensors
    with_w = ctx.needs_input_grad[1]
    gx, gw = polynomial_backward(g, x, w, which, *ctx.rest, with_w)
    return gx, gw if with_w else None, None, None, None


def _backward_gradient(ctx: Any, ax: Tensor, aw: Tensor) -> tuple[Any, ...]:
    g, x, w, which = ctx.saved_tensors
    *names, with_w = ctx.rest
    hg, hx, hw = polynomial_second(ax, aw, g, x, w, which, *names, with_w)
    return hg, hx, hw if with_w else None, None, None, None, None


def _no_third(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    raise UsageError(
        "third derivatives of a Triton polynomial are not available; set the module's backend to"
        " 'reference' for them"
    )


polynomial.register_autograd(_polynomial_gradient, setup_context=keep)
polynomial_backward.register_autograd(_backward_gradient, setup_context=keep)
polynomial_second.register_autograd(_no_third)
