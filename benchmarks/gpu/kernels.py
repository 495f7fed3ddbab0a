"""The convolutions of real models by every backend: compared with float64 first, then timed in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.correctness import TOLERANCES, Directions, derivatives, directions, errors_of
from benchmarks.gpu.device import Device, in_turn
from benchmarks.gpu.failures import attempt
from benchmarks.gpu.shapes import Layer, product_of
from irprune.backends import kernel_for
from irprune.edges import unpack
from irprune.kernels.triton.config import Config, configs, default, pin
from irprune.kernels.tuner.stage2 import Problem, problem, with_gradients
from irprune.profile.kernels import serving
from irprune.specs.path import PathSpec

Kernel = Callable[..., Tensor]
MODES = ("forward", "backward", "double backward")
"""Values; values and gradients; these and the gradients of gradients, as training on forces takes."""
DEGREE = 40
TRIED = 4
"""Configurations of the Triton kernels that are timed before the winner meets the others."""


def shortlist(spec: PathSpec) -> list[Config]:
    """The default configuration and its nearest neighbours: a full search takes longer than a run."""
    first = default(spec)

    def distance(c: Config) -> tuple[int, int]:
        same = (c.block == first.block, c.warps == first.warps, c.stages == first.stages)
        return 4 - sum(same) - (c.variant == first.variant), abs(c.block - first.block)

    return sorted(configs(spec), key=distance)[:TRIED]


def e3nn_kernel(layer: Layer, keep: float, shape: str, like: Tensor) -> Kernel:
    """e3nn's own module between a gather and a scatter: what the stock model runs."""
    product = product_of(layer, keep, shape).to(like.device, like.dtype)

    def convolution(x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
        lists = unpack(edges, x.shape[0])
        messages = product(x[lists.sender], y, w[lists.row])
        return x.new_zeros(x.shape[0], messages.shape[1]).index_add(0, lists.receiver, messages)

    return convolution


def calls_of(kernel: Kernel, given: Problem, along: Directions) -> dict[str, Callable[[], object]]:
    """What is timed of a kernel, by mode."""
    arguments = (*given.operands, given.index)
    return {
        MODES[0]: torch.no_grad()(lambda: kernel(*arguments)),
        MODES[1]: lambda: torch.autograd.grad(kernel(*arguments), given.operands, along.up),
        MODES[2]: lambda: derivatives(kernel, arguments, along),
    }


def measure(
    layer: Layer,
    keep: float,
    shape: str,
    device: Device,
    *,
    dtype: torch.dtype = torch.float32,
    count: int = 200_000,
    rounds: int = 9,
    small: int = 4_000,
) -> dict[str, Any]:
    """One convolution by every backend.

    Args:
        layer: of a real model.
        keep: share of its channels.
        shape: ``aligned`` or ``odd``.
        device: that runs and times it.
        dtype: of the operands.
        count: edges of the problem that is timed.
        rounds: times of each.
        small: edges of the problem that is compared with float64.
    """
    from benchmarks.gpu.shapes import spec_of

    spec = spec_of(layer, keep, shape)
    given = problem(spec, dtype, device.place, DEGREE, count)
    check = problem(spec, dtype, device.place, DEGREE, small)
    names, left = serving(spec, device.place, dtype)
    kernels: dict[str, Kernel] = {n: kernel_for(spec, given.operands[0], n) for n in names}
    kernels["e3nn"] = e3nn_kernel(layer, keep, shape, given.operands[0])
    failed: dict[str, str] = {}
    chosen = choose_config(spec, given, kernels, device, rounds, failed)
    errors = {}
    for name, kernel in kernels.items():
        error = attempt(failed, name, partial(error_of, spec, kernel, check))
        if error is not None:
            errors[name] = error
    tolerance = TOLERANCES[str(dtype).removeprefix("torch.")]
    right = {name: kernels[name] for name, e in errors.items() if e <= tolerance}
    times = timed(right, given, device, rounds, failed)
    edges = given.operands[1].shape[0]
    return {
        "spec": spec.key,
        "dtype": str(dtype).removeprefix("torch."),
        "edges": edges,
        "nodes": given.operands[0].shape[0],
        "config": None if chosen is None else str(chosen),
        "errors": errors,
        "tolerance": tolerance,
        "wrong": sorted(set(errors) - set(right)),
        "failed": failed,
        "left": left,
        **figures(spec, given, times, edges, device.bandwidth),
    }


def error_of(spec: PathSpec, kernel: Kernel, given: Problem) -> float:
    """The largest difference from float64 of values and first and second derivatives."""
    return max(errors_of(spec, kernel, (*given.operands, given.index)).values())


def choose_config(
    spec: PathSpec,
    given: Problem,
    kernels: Mapping[str, Kernel],
    device: Device,
    rounds: int,
    failed: dict[str, str],
) -> Config | None:
    """Times the short list, and pins the fastest with gradients; None where Triton does not serve, or
    no configuration of it runs.
    """
    if "triton" not in kernels:
        return None

    def call(config: Config) -> Callable[[], object]:
        def run() -> object:
            pin(spec, given.operands[0].dtype, config)
            return with_gradients(kernels["triton"], given)

        return run

    calls = {f"triton {c}": call(c) for c in shortlist(spec)}
    times = in_turn(calls, device.timer, min(rounds, 5), failed=failed)
    if not times:
        return None
    fastest = min(times, key=lambda c: statistics.median(times[c]))
    best = Config.parse(fastest.removeprefix("triton "))
    pin(spec, given.operands[0].dtype, best)
    return best


def timed(
    kernels: Mapping[str, Kernel],
    given: Problem,
    device: Device,
    rounds: int,
    failed: dict[str, str],
) -> dict[str, dict[str, list[float]]]:
    """Mode → backend → seconds of each round. What raises is left out of its mode."""
    assert isinstance(given.spec, PathSpec)
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
    spec: PathSpec,
    given: Problem,
    times: Mapping[str, Mapping[str, Sequence[float]]],
    edges: int,
    bandwidth: float,
) -> dict[str, Any]:
    """Times per edge, the time that the bytes of the forward pass take, and ours against the best."""
    limit = least_bytes(spec, given) / bandwidth
    medians = {
        mode: {name: statistics.median(s) for name, s in found.items()}
        for mode, found in times.items()
    }
    best = {}
    for mode, found in medians.items():
        others = [t for name, t in found.items() if name != "triton"]
        ours = found.get("triton")
        best[mode] = min(others) / ours if ours and others else None
    forward = medians.get(MODES[0], {})
    return {
        "ns_per_edge": {
            mode: {name: 1e9 * t / edges for name, t in found.items()}
            for mode, found in medians.items()
        },
        "least_ns_per_edge": 1e9 * limit / edges,
        "share_of_bandwidth": {name: limit / t for name, t in forward.items()},
        "best_other_over_triton": best,
        "seconds": {mode: {n: list(s) for n, s in found.items()} for mode, found in times.items()},
    }


def least_bytes(spec: PathSpec, given: Problem) -> int:
    """Bytes that a forward pass must move: every operand read once, the result written once."""
    result = given.operands[0].shape[0] * spec.dims[2] * given.operands[0].element_size()
    operands = sum(t.numel() * t.element_size() for t in given.operands)
    return operands + given.index.numel() * given.index.element_size() + result
