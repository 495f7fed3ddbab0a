"""The Triton kernels as torch operators: fake tensors, autograd, derivatives of any order.

Rows are ``ir_mul`` here. Operators name a spec by its key (``irprune.backends.recall``) and a
configuration by its text, so that they are functions of their arguments alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from irprune.backends import recall
from irprune.kernels.operands import expect, expect_convolution, expect_rows, keep
from irprune.kernels.triton import launch
from irprune.kernels.triton.config import Config
from irprune.waiting import would_wait


def _expect(where: str, x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str) -> Any:
    found = recall(spec)
    expect_convolution(where, found, x, y, w, edges)
    if not would_wait(x):
        expect_rows(where, edges, y.shape[0], w.shape[0])
    return found


@torch.library.custom_op("irprune::triton_convolution", mutates_args=())
def convolution(x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str, config: str) -> Tensor:
    """x [N, in1], y [E, in2], w [rows, weights] → [N, out]."""
    found = _expect("triton_convolution", x, y, w, edges, spec)
    return launch.convolution(x, y, w, edges, found, Config.parse(config))


@convolution.register_fake
def _(x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str, config: str) -> Tensor:
    return x.new_empty(x.shape[0], recall(spec).dims[2])


@torch.library.custom_op("irprune::triton_convolution_features", mutates_args=())
def features(g: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str, config: str) -> Tensor:
    """Gradient of ⟨g, convolution⟩ by the features: g [N, out] → [N, in1]."""
    found = recall(spec)
    like = g.new_empty(g.shape[0], found.dims[0])
    _expect("triton_convolution_features", like, y, w, edges, spec)
    expect("triton_convolution_features", like, g=(g, (g.shape[0], found.dims[2])))
    return launch.features(g, y, w, edges, found, Config.parse(config))


@features.register_fake
def _(g: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str, config: str) -> Tensor:
    return g.new_empty(g.shape[0], recall(spec).dims[0])


@torch.library.custom_op("irprune::triton_convolution_edges", mutates_args=())
def edge_gradients(
    g: Tensor, x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str, config: str
) -> tuple[Tensor, Tensor]:
    """Gradients of ⟨g, convolution⟩ by the harmonics [E, in2] and the weights [rows, weights]."""
    found = _expect("triton_convolution_edges", x, y, w, edges, spec)
    expect("triton_convolution_edges", x, g=(g, (x.shape[0], found.dims[2])))
    return launch.edge_gradients(g, x, y, w, edges, found, Config.parse(config))


@edge_gradients.register_fake
def _(
    g: Tensor, x: Tensor, y: Tensor, w: Tensor, edges: Tensor, spec: str, config: str
) -> tuple[Tensor, Tensor]:
    return y.new_empty(y.shape), w.new_empty(w.shape)


def _convolution_gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, y, w, edges = ctx.saved_tensors
    need = ctx.needs_input_grad
    gx = features(g, y, w, edges, *ctx.rest) if need[0] else None
    gy, gw = edge_gradients(g, x, y, w, edges, *ctx.rest) if need[1] or need[2] else (None, None)
    return gx, gy if need[1] else None, gw if need[2] else None, None, None, None


def _features_gradient(ctx: Any, a: Tensor) -> tuple[Any, ...]:
    """Of ⟨a, features(g, y, w)⟩ = ⟨g, convolution(a, y, w)⟩."""
    g, y, w, edges = ctx.saved_tensors
    need = ctx.needs_input_grad
    hg = convolution(a, y, w, edges, *ctx.rest) if need[0] else None
    hy, hw = edge_gradients(g, a, y, w, edges, *ctx.rest) if need[1] or need[2] else (None, None)
    return hg, hy if need[1] else None, hw if need[2] else None, None, None, None


def _edge_gradients_gradient(ctx: Any, ay: Tensor, aw: Tensor) -> tuple[Any, ...]:
    """Of ⟨ay, gy⟩ + ⟨aw, gw⟩ = ⟨g, C(x, ay, w) + C(x, y, aw)⟩."""
    g, x, y, w, edges = ctx.saved_tensors
    need, rest = ctx.needs_input_grad, (edges, *ctx.rest)
    hg = convolution(x, ay, w, *rest) + convolution(x, y, aw, *rest) if need[0] else None
    hx = features(g, ay, w, *rest) + features(g, y, aw, *rest) if need[1] else None
    # by y of the second term, by w of the first: each does not see the operand it is the gradient of
    hy, hw = edge_gradients(g, x, ay, aw, *rest) if need[2] or need[3] else (None, None)
    return hg, hx, hy if need[2] else None, hw if need[3] else None, None, None, None


convolution.register_autograd(_convolution_gradient, setup_context=keep)
features.register_autograd(_features_gradient, setup_context=keep)
edge_gradients.register_autograd(_edge_gradients_gradient, setup_context=keep)
