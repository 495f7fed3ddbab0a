"""Products with a matrix by element, as operators: fake tensors, and derivatives of any order.

On the CPU atoms are taken element by element. That looks at the elements; where a look would wait for
the device, every atom reads its own matrix instead, some atoms at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from irprune.specs.linear import mix
from irprune.waiting import would_wait

GATHERED = 1 << 25
"""Most numbers of matrices that are copied for atoms at a time: 128 MiB in float32."""


@torch.library.custom_op("irprune::mix_by_element", mutates_args=())
def mix_by_element(
    x: Tensor, species: Tensor, weight: Tensor, dim: int, ir_mul: bool = False
) -> Tensor:
    """Copies of one irrep mixed by element: [N, mul·dim], [N], [S, mul, copies] → [N, copies·dim].

    ``ir_mul`` says the layout of x and of the result.
    """
    out = x.new_empty(x.shape[0], weight.shape[2] * dim)
    if would_wait(x):
        for some in _chunks(species, weight.shape[1] * weight.shape[2]):
            own = weight.index_select(0, species[some])
            made = torch.bmm(_components(x[some], dim, ir_mul), own)
            out[some] = _rows(made, ir_mul)
        return out
    present = torch.unique(species).tolist()
    if len(present) == 1:
        return mix(x, weight[present[0]], dim, ir_mul).clone()
    for element in present:
        rows = (species == element).nonzero().squeeze(1)
        out[rows] = mix(x[rows], weight[element], dim, ir_mul)
    return out


@mix_by_element.register_fake
def _(x: Tensor, species: Tensor, weight: Tensor, dim: int, ir_mul: bool = False) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[2] * dim)


@torch.library.custom_op("irprune::outer_by_element", mutates_args=())
def outer_by_element(
    x: Tensor, y: Tensor, species: Tensor, elements: int, dim: int, ir_mul: bool = False
) -> Tensor:
    """Σ over the atoms of an element of x ⊗ y: [N, a·dim], [N, b·dim], [N] → [S, a, b]."""
    left, right = (_components(t, dim, ir_mul) for t in (x, y))
    out = x.new_zeros(elements, left.shape[2], right.shape[2])
    if would_wait(x):
        for some in _chunks(species, left.shape[2] * right.shape[2]):
            out.index_add_(0, species[some], torch.bmm(left[some].transpose(1, 2), right[some]))
        return out
    for element in torch.unique(species).tolist():
        rows = (species == element).nonzero().squeeze(1)
        out[element] = torch.einsum("nmu,nmv->uv", left[rows], right[rows])
    return out


@outer_by_element.register_fake
def _(
    x: Tensor, y: Tensor, species: Tensor, elements: int, dim: int, ir_mul: bool = False
) -> Tensor:
    return x.new_empty(elements, x.shape[1] // dim, y.shape[1] // dim)


def _components(x: Tensor, dim: int, ir_mul: bool) -> Tensor:
    """[N, mul·dim] as [N, dim, mul]."""
    n = x.shape[0]
    mul = x.shape[1] // dim
    return x.reshape(n, dim, mul) if ir_mul else x.reshape(n, mul, dim).transpose(1, 2)


def _rows(x: Tensor, ir_mul: bool) -> Tensor:
    """[N, dim, mul] as [N, mul·dim]."""
    return (x if ir_mul else x.transpose(1, 2)).reshape(x.shape[0], x.shape[1] * x.shape[2])


def _chunks(species: Tensor, size: int) -> Iterator[slice]:
    """Runs of atoms whose matrices of ``size`` numbers are gathered at a time."""
    step = max(1, GATHERED // max(size, 1))
    for start in range(0, species.shape[0], step):
        yield slice(start, start + step)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*(a for a in inputs if isinstance(a, Tensor)))
    ctx.rest = [a for a in inputs if not isinstance(a, Tensor)]


def _mixed(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, species, weight = ctx.saved_tensors
    gx = mix_by_element(g, species, weight.transpose(1, 2), *ctx.rest)
    need = ctx.needs_input_grad[2]
    gw = outer_by_element(x, g, species, weight.shape[0], *ctx.rest) if need else None
    return gx, None, gw, None, None


def _outer(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, y, species = ctx.saved_tensors
    rest = ctx.rest[1:]
    gx = mix_by_element(y, species, g.transpose(1, 2), *rest)
    return gx, mix_by_element(x, species, g, *rest), None, None, None, None


mix_by_element.register_autograd(_mixed, setup_context=_keep)
outer_by_element.register_autograd(_outer, setup_context=_keep)
