"""Both ways on a GPU: compared with float64, then timed in turn."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.device import in_turn
from benchmarks.gpu.failures import attempt
from benchmarks.gpu.radial.compiled import PRECISIONS, chosen
from benchmarks.gpu.radial.ways import Fused, Operands, Separate, Way, error_of, operands
from irprune.irreps import Layout
from irprune.kernels.triton.config import Config, deeper, shallow
from irprune.kernels.tuner.stage2 import EDGES, Timer
from irprune.specs.path import PathSpec

TOLERANCES = {"float32": 1e-5, "ieee": 1e-5, "tf32x3": 1e-5, "tf32": 5e-3}
"""Largest difference from float64, of the largest number."""
CHECKED = 500
ROUNDS = 9


def timed(
    spec: PathSpec,
    found: Mapping[str, Any],
    device: torch.device,
    timer: Timer,
    count: int = EDGES,
) -> dict[str, Any]:
    """Nanoseconds per edge, medians, of every way that is right.

    Fused: the layouts that ``compare`` found best. Separate: in the fastest configuration of one node,
    which is raced before; with a row of weights per edge and per pair of edges, in float32 and in tf32.
    What raises or is wrong stands under ``failed`` and has no time.
    """
    spec = spec.in_layout(Layout.IR_MUL)
    failed: dict[str, str] = {}
    errors: dict[str, float] = {}
    small, large = operands(spec, device, CHECKED), operands(spec, device, count)
    config = _raced(spec, large, timer, failed)
    ways = _ways(spec, found, config)
    for name, way in ways.items():
        error = attempt(failed, name, partial(error_of, spec, way, small))
        if error is not None:
            errors[name] = error
            if not error <= TOLERANCES[name.split()[1]]:
                failed[name] = f"it is wrong by {error:.2g} of the largest"
    calls = {name: partial(way, spec, large) for name, way in ways.items() if name not in failed}
    times = in_turn(calls, timer, ROUNDS, failed=failed)
    edges = len(large.y)
    return {
        "config": None if config is None else str(config),
        "errors": errors,
        "failed": failed,
        "edges": edges,
        "ns_per_edge": {n: statistics.median(t) / edges * 1e9 for n, t in times.items()},
    }


def _ways(spec: PathSpec, found: Mapping[str, Any], config: Config | None) -> dict[str, Way]:
    made: dict[str, Way] = {}
    if config is not None:
        for precision in ("float32", "tf32"):
            made[f"separate {precision}"] = Separate(config, precision == "tf32")
            made[f"separate {precision} pairs"] = Separate(config, precision == "tf32", pairs=True)
    for precision in PRECISIONS:
        kernels = chosen(found, spec, precision)
        if kernels:
            made[f"fused {precision}"] = Fused(kernels)
    return made


def _raced(spec: PathSpec, given: Operands, timer: Timer, failed: dict[str, str]) -> Config | None:
    """The fastest configuration of the separate way: of one stage, then of what is deeper than that."""

    def race(configs: Sequence[Config]) -> Config | None:
        by_name = {f"separate {c}": c for c in configs}
        calls = {name: partial(Separate(c), spec, given) for name, c in by_name.items()}
        times = in_turn(calls, timer, ROUNDS, failed=failed)
        best = min(times, key=lambda name: statistics.median(times[name]), default=None)
        return None if best is None else by_name[best]

    first = race([c for c in shallow(spec) if c.variant == "csr"])
    return None if first is None else race([first, *deeper(spec, first)])
