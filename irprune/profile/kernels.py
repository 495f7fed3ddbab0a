"""Backends compared on one spec: what each computes first, then their times in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from irprune.backends import Reference, Spec, backend_named, order, refusals
from irprune.edges import pack
from irprune.errors import UsageError
from irprune.profile.compare import in_turn
from irprune.specs.linear import LinearSpec
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec
from irprune.specs.table import TableSpec
from irprune.verification.checks import worse

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4}
"""Largest difference of a value or gradient from the reference in float64, of the largest of it."""
ELEMENTS = 4


@dataclass(frozen=True, eq=False)
class Operands:
    """Random operands of a spec: those that gradients are taken by, and all in order."""

    free: tuple[Tensor, ...]
    arguments: tuple[Any, ...]
    rows: int
    """Edges of a convolution, rows of the others: what times are per."""

    def double(self) -> Operands:
        """The same numbers in float64."""
        made = tuple(t.detach().double().requires_grad_() for t in self.free)
        swap = {id(t): d for t, d in zip(self.free, made, strict=True)}

        def exchange(a: Any) -> Any:
            if isinstance(a, list):
                return [exchange(x) for x in a]
            return swap.get(id(a), a)

        return Operands(made, tuple(exchange(a) for a in self.arguments), self.rows)


def operands(
    spec: Spec, rows: int, degree: float, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> Operands:
    """Operands with so many edges or rows; nodes of a convolution have ``degree`` edges each."""
    g = torch.Generator().manual_seed(seed)

    def numbers(*size: int) -> Tensor:
        return torch.randn(*size, generator=g).to(device, dtype).requires_grad_()

    if isinstance(spec, PathSpec):
        each = max(1, round(degree))
        nodes = max(2, rows // each)
        receiver = torch.arange(nodes).repeat_interleave(each)
        near = torch.randint(1, min(nodes, 4 * each + 1), receiver.shape, generator=g)
        edges = pack(((receiver + near) % nodes).to(device), receiver.to(device), nodes)
        rows = len(receiver)
        x, y = numbers(nodes, spec.dims[0]), numbers(rows, spec.dims[1])
        w = numbers(rows, spec.n_weights)
        return Operands((x, y, w), (x, y, w, edges), rows)
    if isinstance(spec, PolySpec):
        which = torch.randint(ELEMENTS, (rows,), generator=g).to(device)
        x = numbers(rows, spec.dims[0] * spec.channels)
        w = numbers(ELEMENTS, spec.n_paths, spec.channels)
        return Operands((x, w), (x, w, which), rows)
    if isinstance(spec, TableSpec):
        share = torch.rand(rows, generator=g, dtype=torch.float64)
        r = (spec.start + (spec.stop - spec.start) * share).to(device, dtype).requires_grad_()
        table = numbers(spec.tables, spec.intervals, spec.degree + 1, spec.width)
        which = torch.randint(spec.tables, (rows,), generator=g).to(device)
        return Operands((r,), (r, table.detach(), which if spec.tables > 1 else None), rows)
    assert isinstance(spec, LinearSpec)
    weights = [numbers(*p.copies) for p in spec.products]
    x = numbers(rows, spec.dims[0])
    return Operands((x, *weights), (x, weights), rows)


def values_and_gradients(kernel: Callable[..., Tensor], given: Operands) -> tuple[Tensor, ...]:
    """Values, and the gradients of their product with fixed numbers by every free operand."""
    made = kernel(*given.arguments)
    g = torch.linspace(-1, 1, made.numel(), device=made.device, dtype=made.dtype).view_as(made)
    return made.detach(), *torch.autograd.grad(made, given.free, g)


@dataclass(frozen=True)
class KernelTimes:
    """Backends on one spec, in the order in which they would be asked."""

    backends: tuple[str, ...]
    errors: tuple[float, ...]
    """Of each: largest difference from the reference in float64, of the largest number."""
    forward: tuple[tuple[float, ...], ...]
    """Seconds of each backend in each round, values only."""
    both: tuple[tuple[float, ...], ...]
    """Values and all first gradients."""
    rows: int
    tolerance: float

    def ratios(self, rounds: Sequence[tuple[float, ...]]) -> dict[str, dict[str, float]]:
        """Time over that of the reference within each round: median and quartiles."""
        at = self.backends.index(Reference.name)
        out = {}
        for i, name in enumerate(self.backends):
            found = [r[i] / r[at] for r in rounds]
            q1, median, q3 = (
                statistics.quantiles(found, n=4, method="inclusive")
                if len(found) > 1
                else found * 3
            )
            out[name] = {"median": median, "q1": q1, "q3": q3}
        return out

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "errors": dict(zip(self.backends, self.errors, strict=True)),
            "tolerance": self.tolerance,
            "forward": self.ratios(self.forward),
            "with_gradients": self.ratios(self.both),
        }


def serving(
    spec: Spec, device: torch.device, dtype: torch.dtype, wanted: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """The backends to compare, and why each of the others is left out.

    By default all that serve; on the CPU those that would be taken, which leaves out what is only there
    to be compared with. The reference is always among them.

    Raises:
        UsageError: one of ``wanted`` is not known, or declines.
    """
    said = refusals(spec, device, dtype)
    for name in wanted:
        refusal = said[backend_named(name).name]
        if refusal is not None:
            raise UsageError(f"the backend that was asked for declines: {refusal}")
    ranks = {b.name: b.rank_on(device) for b in order(device)}
    names, left = [], {}
    for name, refusal in said.items():
        if refusal is not None:
            left[name] = refusal.reason
        elif name == Reference.name or name in wanted or (not wanted and ranks[name] >= -1):
            names.append(name)
        else:
            left[name] = "it is taken only where it is named"
    return names, left


def compare_backends(
    spec: Spec,
    given: Operands,
    names: Sequence[str],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> KernelTimes:
    """Computes with every backend, compares with the reference in float64, then times them in turn."""
    kernels = [backend_named(name).kernel(spec) for name in names]
    exact = values_and_gradients(Reference().kernel(spec), given.double())
    errors = tuple(_difference(values_and_gradients(k, given), exact) for k in kernels)
    device = given.free[0].device

    def waiting(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return run

    def values(kernel: Callable[..., Tensor]) -> Callable[[], None]:
        return waiting(torch.no_grad()(lambda: kernel(*given.arguments)))

    def both(kernel: Callable[..., Tensor]) -> Callable[[], None]:
        return waiting(lambda: values_and_gradients(kernel, given))

    return KernelTimes(
        tuple(names),
        errors,
        tuple(in_turn([values(k) for k in kernels], rounds, clock)),
        tuple(in_turn([both(k) for k in kernels], rounds, clock)),
        given.rows,
        TOLERANCE[given.free[0].dtype],
    )


def _difference(made: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Largest difference of any, of the largest number of it."""
    found = 0.0
    for a, b in zip(made, exact, strict=True):
        if b.numel():
            scale = float(b.abs().max()) or 1.0
            found = worse(found, float((a.double() - b).abs().max()) / scale)
    return found
