"""The kernels of real models by every backend: compared with float64 first, then timed in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.choice import ROUNDS, choose, rows_of, untuned
from benchmarks.gpu.correctness import (
    TOLERANCES,
    Directions,
    Spec,
    derivatives,
    directions,
    errors_of,
    width_of,
)  # fmt: skip
from benchmarks.gpu.device import Device, in_turn
from benchmarks.gpu.failures import OURS, attempt
from benchmarks.gpu.shapes import Item, Layer, kernel_spec
from benchmarks.gpu.stock import Kernel, cueq_kernel, e3nn_kernel
from irprune.backends import kernel_for
from irprune.irreps import Layout
from irprune.kernels.triton.config import Config
from irprune.kernels.tuner.stage2 import Problem, problem, with_gradients
from irprune.profile.kernels import serving
from irprune.specs.path import PathSpec
from irprune.verification.checks import worst_of

MODES = ("forward", "backward", "double backward")
"""Values; values and gradients; these and the gradients of gradients, as training on forces takes."""
DEGREE = 40
IN_PLACE = " ir_mul"
"""Stands after a backend whose rows come in ``ir_mul``, as the pass ``lay-out`` leaves them."""
Compiled = Callable[..., bool]
"""(spec, configuration, dtype) → whether its kernels are compiled."""
LAYOUTS = ("triton", "cuequivariance")
"""Backends whose kernels work in ``ir_mul``: timed in both layouts."""


def kernels_of(
    item: Item,
    keep: float,
    shape: str,
    specs: Mapping[str, Spec],
    like: Tensor,
    failed: dict[str, str],
) -> tuple[dict[str, tuple[Kernel, Spec]], dict[str, str]]:
    """Every kernel with its spec, and why other backends are left out.

    ``specs`` has the kernel in each layout, by what stands after the names of backends there.
    ``failed`` gets the errors of kernels that cannot be made.
    """
    names, left = serving(specs[""], like.device, like.dtype)
    makers: dict[str, tuple[Callable[[], Kernel], Spec]] = {}
    if isinstance(item, Layer):
        makers["e3nn"] = partial(e3nn_kernel, item, keep, shape, like), specs[""]
    else:
        left["e3nn"] = "has no symmetric contraction"
    for name in names:
        for after, spec in specs.items():
            if not after or name in LAYOUTS:
                make: Callable[[], Kernel] = partial(kernel_for, spec, like, name)
                if name == "cuequivariance" and isinstance(spec, PathSpec):
                    make = partial(cueq_kernel, spec, like)
                makers[name + after] = make, spec
    made = {name: (attempt(failed, name, make), spec) for name, (make, spec) in makers.items()}
    return {name: (k, spec) for name, (k, spec) in made.items() if k is not None}, left


def calls_of(kernel: Kernel, given: Problem, along: Directions) -> dict[str, Callable[[], object]]:
    """What is timed of a kernel, by mode."""
    arguments = (*given.operands, given.index)
    return {
        MODES[0]: torch.no_grad()(lambda: kernel(*arguments)),
        MODES[1]: lambda: torch.autograd.grad(kernel(*arguments), given.operands, along.up),
        MODES[2]: lambda: derivatives(kernel, arguments, along),
    }


def measure(
    item: Item,
    keep: float,
    shape: str,
    device: Device,
    *,
    dtype: torch.dtype = torch.float32,
    count: int = 200_000,
    rounds: int = 9,
    small: int = 4_000,
    compiled: Compiled | None = None,
) -> dict[str, Any]:
    """One convolution or contraction by every backend.

    Args:
        item: of a real model.
        keep: share of its channels.
        shape: ``aligned`` or ``odd``.
        device: that runs and times it.
        dtype: of the operands.
        count: edges of the problem that is timed; a contraction has the atoms of so many edges.
        rounds: times of each.
        small: edges of the problem that is compared with float64.
        compiled: says what is compiled already; None where that is not known, and all may take part.
    """
    spec = kernel_spec(item, keep, shape)
    each = 1 if isinstance(item, Layer) else DEGREE
    specs: dict[str, Spec] = {"": spec, IN_PLACE: spec.in_layout(Layout.IR_MUL)}
    given = problem(spec, dtype, device.place, DEGREE, count // each)
    check = problem(spec, dtype, device.place, DEGREE, small // each)
    failed: dict[str, str] = {}
    found, left = kernels_of(item, keep, shape, specs, given.operands[0], failed)
    served = chosen = None
    ready = partial(compiled or _all, spec, dtype=dtype)
    not_raced: list[str] = []
    if OURS + IN_PLACE in found:
        served = untuned(given)
        ours = partial(with_gradients, found[OURS + IN_PLACE][0], given)
        chosen = choose(
            spec, dtype, served, ours, device, failed, min(rounds, ROUNDS), ready, not_raced
        )
        if chosen is None:
            found = {n: k for n, k in found.items() if not n.startswith(OURS)}
    errors = {}
    for name, (kernel, own) in found.items():
        error = attempt(failed, name, partial(error_of, own, kernel, check))
        if error is not None:
            errors[name] = error
    tolerance = TOLERANCES[str(dtype).removeprefix("torch.")]
    right = {name: found[name][0] for name, e in errors.items() if e <= tolerance}
    times = timed(right, given, device, rounds, failed)
    return {
        "spec": spec.key,
        "dtype": str(dtype).removeprefix("torch."),
        "rows": rows_of(given),
        "nodes": given.operands[0].shape[0],
        "config": None if chosen is None else str(chosen),
        "default_config": None if served is None else str(served),
        "not_raced": not_raced,
        "errors": errors,
        "tolerance": tolerance,
        "wrong": sorted(errors.keys() - right.keys()),
        "failed": failed,
        "left": left,
        **figures(given, times, device.bandwidth),
    }


def _all(spec: Spec, config: Config, dtype: torch.dtype) -> bool:
    return True


def error_of(spec: Spec, kernel: Kernel, given: Problem) -> float:
    """The largest difference from float64 of values and first and second derivatives."""
    return worst_of(errors_of(spec, kernel, (*given.operands, given.index)).values())


def timed(
    kernels: Mapping[str, Kernel],
    given: Problem,
    device: Device,
    rounds: int,
    failed: dict[str, str],
) -> dict[str, dict[str, list[float]]]:
    """Mode → backend → seconds of each round. What raises is left out of its mode."""
    along = directions(given.spec, given.operands)
    calls = {name: calls_of(kernel, given, along) for name, kernel in kernels.items()}
    found = {}
    for mode in MODES:
        lost: dict[str, str] = {}
        found[mode] = in_turn(
            {name: calls[name][mode] for name in calls}, device.timer, rounds, failed=lost
        )
        failed.update({f"{name} {mode}": text for name, text in lost.items()})
    return found


def figures(
    given: Problem, times: Mapping[str, Mapping[str, Sequence[float]]], bandwidth: float
) -> dict[str, Any]:
    """Times per row (edge of a convolution, atom of a contraction), the time that the bytes of the
    forward pass take, and ours against the best.
    """
    limit, rows = least_bytes(given) / bandwidth, rows_of(given)
    medians = {
        mode: {name: statistics.median(s) for name, s in found.items()}
        for mode, found in times.items()
    }
    best = {}
    for mode, found in medians.items():
        others = [t for name, t in found.items() if not name.startswith(OURS)]
        ours = {name: t for name, t in found.items() if name.startswith(OURS)}
        best[mode] = {name: min(others) / t for name, t in ours.items()} if others else {}
    forward = medians.get(MODES[0], {})
    return {
        "ns_per_row": {
            mode: {name: 1e9 * t / rows for name, t in found.items()}
            for mode, found in medians.items()
        },
        "least_ns_per_row": 1e9 * limit / rows,
        "share_of_bandwidth": {name: limit / t for name, t in forward.items()},
        "best_other_over_triton": best,
        "seconds": {mode: {n: list(s) for n, s in found.items()} for mode, found in times.items()},
    }


def least_bytes(given: Problem) -> int:
    """Bytes that a forward pass must move: every operand read once, the result written once."""
    result = given.operands[0].shape[0] * width_of(given.spec) * given.operands[0].element_size()
    operands = sum(t.numel() * t.element_size() for t in given.operands)
    return operands + given.index.numel() * given.index.element_size() + result
