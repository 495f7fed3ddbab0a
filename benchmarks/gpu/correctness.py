"""Whether a kernel computes what the reference computes in float64: values and derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Directions:
    """Fixed numbers that derivatives are taken along: of the result, and of its first gradients."""

    up: Tensor
    """Like the result."""
    along: tuple[Tensor, Tensor, Tensor]
    """Like x, y, w."""

    def double(self) -> Directions:
        """The same numbers in float64."""
        x, y, w = (t.double() for t in self.along)
        return Directions(self.up.double(), (x, y, w))


def directions(spec: PathSpec, operands: Sequence[Tensor]) -> Directions:
    """Numbers that the dtype of x, y, w holds exactly. Made before a clock runs: they are no kernel's
    work.
    """

    def like(*size: int) -> Tensor:
        count = math.prod(size)
        return torch.cos(torch.arange(count, device=device)).view(size).to(dtype)

    x, y, w = (t.shape for t in operands[:3])
    device, dtype = operands[0].device, operands[0].dtype
    return Directions(like(x[0], spec.dims[2]), (like(*x), like(*y), like(*w)))


def derivatives(
    function: Callable[..., Tensor], operands: Sequence[Tensor], given: Directions
) -> list[Tensor]:
    """The PARTS: value, gradients, and gradients of a fixed combination of the gradients."""
    *numbers, edges = operands
    leaves = [t.detach().requires_grad_() for t in numbers]
    out = function(*leaves, edges)
    up = given.up.detach().requires_grad_()
    first = torch.autograd.grad(out, leaves, up, create_graph=True)
    second = torch.autograd.grad(first, (up, *leaves), given.along)
    return [t.detach() for t in (out, *first, *second)]


def errors_of(
    spec: PathSpec, kernel: Callable[..., Tensor], operands: Sequence[Tensor]
) -> dict[str, float]:
    """The largest difference of each of the PARTS from the reference in float64, of its largest number.

    Not a number counts as infinite.
    """
    *numbers, edges = operands
    along = directions(spec, numbers)
    made = derivatives(kernel, operands, along)
    exact = (*(t.detach().double() for t in numbers), edges)
    wanted = derivatives(lambda *a: convolve(spec, *a), exact, along.double())
    found = {}
    for part, a, b in zip(PARTS, made, wanted, strict=True):
        error = float((a.double() - b).abs().max()) / max(1.0, float(b.abs().max()))
        found[part] = math.inf if math.isnan(error) else error
    return found


def compare(
    spec: PathSpec, config: Config, given: tuple[Tensor, Tensor, Tensor, Tensor]
) -> dict[str, Any]:
    """Largest differences from float64, relative to the largest number; which kernels ran."""
    x = given[0]
    name = str(x.dtype).removeprefix("torch.")
    pin(spec, x.dtype, config)
    launch.LAUNCHES.clear()
    errors = errors_of(spec, kernel_for(spec, x, "triton"), given)
    ran = dict(launch.LAUNCHES)
    return {
        "config": str(config),
        "dtype": name,
        "errors": errors,
        "tolerance": TOLERANCES[name],
        "ok": all(e <= TOLERANCES[name] for e in errors.values()),
        "kernels": ran,
    }
