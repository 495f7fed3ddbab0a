"""Whether a kernel computes what the reference computes in float64: values and derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from irprune.backends import Reference, kernel_for
from irprune.edges import pack
from irprune.kernels.triton import launch
from irprune.kernels.triton.config import Config, pin
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

Spec = PathSpec | PolySpec

ELEMENTS = 4
"""Rows of weights of a polynomial."""
TOLERANCES = {"float64": 1e-11, "float32": 2e-5, "bfloat16": 3e-2, "float16": 4e-3}
"""Of the largest number of each part: rounding of sums, and of results in low precision."""


def parts_of(spec: Spec) -> list[str]:
    """Names of what is compared: the value, and first and second derivatives by every operand."""
    names = ["x", "y", "w"] if isinstance(spec, PathSpec) else ["x", "w"]
    return ["value", *(f"by {n}" for n in names), *(f"second by {n}" for n in ["g", *names])]


def operands(
    spec: Spec, nodes: int, edges: int, device: str, dtype: torch.dtype, seed: int = 0
) -> tuple[Tensor, ...]:
    """Random numbers that ``dtype`` holds exactly: x, y, w and packed random edges of a convolution;
    x, w and the row of w of each node of a polynomial.
    """
    g = torch.Generator().manual_seed(seed)

    def numbers(*size: int) -> Tensor:
        return torch.randn(size, generator=g).to(dtype).to(device)

    if isinstance(spec, PolySpec):
        which = torch.randint(0, ELEMENTS, (nodes,), generator=g).to(device)
        x = numbers(nodes, spec.dims[0] * spec.channels)
        return x, numbers(ELEMENTS, spec.n_paths, spec.channels), which
    sender, receiver = torch.randint(0, nodes, (2, edges), generator=g)
    x, y = numbers(nodes, spec.dims[0]), numbers(edges, spec.dims[1])
    return x, y, numbers(edges, spec.n_weights), pack(sender, receiver, nodes).to(device)


def width_of(spec: Spec) -> int:
    """Numbers of a row of the result."""
    return spec.dims[2] if isinstance(spec, PathSpec) else spec.dims[1] * spec.channels


@dataclass(frozen=True, eq=False)
class Directions:
    """Fixed numbers that derivatives are taken along: of the result, and of its first gradients."""

    up: Tensor
    """Like the result."""
    along: tuple[Tensor, ...]
    """Like the operands."""

    def double(self) -> Directions:
        """The same numbers in float64."""
        return Directions(self.up.double(), tuple(t.double() for t in self.along))


def directions(spec: Spec, numbers: Sequence[Tensor]) -> Directions:
    """Numbers that the dtype of the operands holds exactly. Made before a clock runs: they are no
    kernel's work.
    """
    device, dtype = numbers[0].device, numbers[0].dtype

    def like(*size: int) -> Tensor:
        count = math.prod(size)
        return torch.cos(torch.arange(count, device=device)).view(size).to(dtype)

    up = like(numbers[0].shape[0], width_of(spec))
    return Directions(up, tuple(like(*t.shape) for t in numbers))


def derivatives(
    function: Callable[..., Tensor], operands: Sequence[Tensor], given: Directions
) -> list[Tensor]:
    """The parts: value, gradients, and gradients of a fixed combination of the gradients."""
    *numbers, index = operands
    leaves = [t.detach().requires_grad_() for t in numbers]
    out = function(*leaves, index)
    up = given.up.detach().requires_grad_()
    first = torch.autograd.grad(out, leaves, up, create_graph=True)
    second = torch.autograd.grad(first, (up, *leaves), given.along)
    return [t.detach() for t in (out, *first, *second)]


def errors_of(
    spec: Spec, kernel: Callable[..., Tensor], operands: Sequence[Tensor]
) -> dict[str, float]:
    """The largest difference of each part from the reference in float64, of its largest number.

    Not a number counts as infinite.
    """
    *numbers, index = operands
    along = directions(spec, numbers)
    made = derivatives(kernel, operands, along)
    exact = (*(t.detach().double() for t in numbers), index)
    wanted = derivatives(Reference().kernel(spec), exact, along.double())
    found = {}
    for part, a, b in zip(parts_of(spec), made, wanted, strict=True):
        error = float((a.double() - b).abs().max()) / max(1.0, float(b.abs().max()))
        found[part] = math.inf if math.isnan(error) else error
    return found


def compare(spec: Spec, config: Config, given: Sequence[Tensor]) -> dict[str, Any]:
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
