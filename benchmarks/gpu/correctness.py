"""Whether a kernel computes what the reference computes in float64: values and derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from irprune.backends import convolve, kernel_for
from irprune.edges import pack
from irprune.kernels.triton import launch
from irprune.kernels.triton.config import Config, pin
from irprune.specs.path import PathSpec

PARTS = ("value", "by x", "by y", "by w", "second by g", "second by x", "second by y",
         "second by w")  # fmt: skip
TOLERANCES = {"float64": 1e-11, "float32": 2e-5, "bfloat16": 3e-2, "float16": 4e-3}
"""Of the largest number of each part: rounding of sums, and of results in low precision."""


def operands(
    spec: PathSpec, nodes: int, edges: int, device: str, dtype: torch.dtype, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random x, y, w with numbers that ``dtype`` holds exactly, and packed random edges."""
    g = torch.Generator().manual_seed(seed)
    sender, receiver = torch.randint(0, nodes, (2, edges), generator=g)
    shapes = ((nodes, spec.dims[0]), (edges, spec.dims[1]), (edges, spec.n_weights))
    x, y, w = (torch.randn(s, generator=g).to(dtype).to(device) for s in shapes)
    return x, y, w, pack(sender, receiver, nodes).to(device)


def derivatives(
    function: Callable[..., Tensor], operands: Sequence[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """The PARTS: value, gradients, and gradients of a fixed combination of the gradients.

    ``dtype`` is the one that the directions are rounded to, whatever the operands have.
    """
    x, y, w, edges = operands

    def direction(like: Tensor) -> Tensor:
        numbers = torch.cos(torch.arange(like.numel(), device=like.device))
        return numbers.view(like.shape).to(dtype).to(like.dtype)

    given = [t.detach().requires_grad_() for t in (x, y, w)]
    out = function(*given, edges)
    up = direction(out).requires_grad_()
    first = torch.autograd.grad(out, given, up, create_graph=True)
    second = torch.autograd.grad(first, (up, *given), [direction(f) for f in first])
    return [t.detach() for t in (out, *first, *second)]


def compare(
    spec: PathSpec, config: Config, given: tuple[Tensor, Tensor, Tensor, Tensor]
) -> dict[str, Any]:
    """Largest differences from float64, relative to the largest number; which kernels ran."""
    x, *_, edges = given
    name = str(x.dtype).removeprefix("torch.")
    pin(spec, x.dtype, config)
    launch.LAUNCHES.clear()
    made = derivatives(kernel_for(spec, x, "triton"), given, x.dtype)
    ran = dict(launch.LAUNCHES)
    exact = [t.double() for t in given[:3]]
    wanted = derivatives(lambda *a: convolve(spec, *a), (*exact, edges), x.dtype)
    errors = {}
    for part, a, b in zip(PARTS, made, wanted, strict=True):
        errors[part] = float((a.double() - b).abs().max()) / max(1.0, float(b.abs().max()))
    return {
        "config": str(config),
        "dtype": name,
        "errors": errors,
        "tolerance": TOLERANCES[name],
        "ok": all(e <= TOLERANCES[name] for e in errors.values()),
        "kernels": ran,
    }
