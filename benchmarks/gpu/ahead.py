"""Kernels compiled before they are needed, by all processors at once.

A launch compiles one kernel at a time while the GPU waits. Triton keeps what was compiled on disk, by
what a launch would ask for: it is found there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.gpu.choice import neighbours, widths
from benchmarks.gpu.kernels import DEGREE
from benchmarks.gpu.shapes import kernel_spec
from benchmarks.gpu.stages import in_order, variants
from irprune.devices import processors
from irprune.kernels.triton.config import Config, default
from irprune.kernels.triton.source import sources
from irprune.kernels.tuner.architecture import Architecture
from irprune.kernels.tuner.lookup import lookup
from irprune.kernels.tuner.pool import in_processes
from irprune.kernels.tuner.stage1 import compile_source
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

Given = tuple[PathSpec | PolySpec, Config, torch.dtype, Architecture]


def fill(
    spec: PathSpec | PolySpec, config: Config, dtype: torch.dtype, architecture: Architecture
) -> int:
    """Compiles the kernels of one configuration; how many. What fails will fail at its launch again,
    where it is told.
    """
    made = 0
    for source in sources(spec, config, dtype):
        try:
            compile_source(source, architecture)
        except Exception:  # whatever the compiler raises
            continue
        made += 1
    return made


def wanted(arguments: argparse.Namespace, architecture: Architecture) -> dict[str, Given]:
    """What the stages of a run will launch, in their order, by name."""
    found: dict[str, Given] = {}
    stages: dict[str, Callable[[], Iterator[tuple[str, Given]]]] = {
        "correctness": lambda: _checked(arguments, architecture),
        "kernels": lambda: _timed(arguments, architecture),
        "models": lambda: _served(arguments, architecture),
    }
    for name, given in stages.items():
        if name in arguments.stages:
            for label, one in given():
                found.setdefault(label, one)
    return found


def _checked(
    arguments: argparse.Namespace, architecture: Architecture
) -> Iterator[tuple[str, Given]]:
    for dtype in arguments.dtypes:
        for item, keep, shape in in_order(arguments.layers, arguments.keep):
            spec = kernel_spec(item, keep, shape)
            for variant in variants(item):
                config = Config(default(spec).block, 1, 1, variant)
                yield _named(spec, config, getattr(torch, dtype), architecture)


def _timed(
    arguments: argparse.Namespace, architecture: Architecture
) -> Iterator[tuple[str, Given]]:
    """Every width that is raced, then what is near each: one of them will be the fastest."""
    cases = [kernel_spec(*c) for c in in_order(arguments.layers, arguments.keep)]
    raced = {s: widths(s, lookup(s, torch.float32, architecture, DEGREE)) for s in cases}
    for spec, found in raced.items():
        for config in found:
            yield _named(spec, config, torch.float32, architecture)
    for spec, found in raced.items():
        for config in found:
            for near in neighbours(spec, config):
                yield _named(spec, near, torch.float32, architecture)


def _served(
    arguments: argparse.Namespace, architecture: Architecture
) -> Iterator[tuple[str, Given]]:
    """What a user gets for the kernels of a model."""
    from irprune import api
    from irprune.kernelplan import kernel_nodes

    for model in arguments.models:
        for _, module in kernel_nodes(api.load(model).gm):
            if isinstance(module.spec, PathSpec | PolySpec):
                config = lookup(module.spec, torch.float32, architecture, DEGREE)
                yield _named(module.spec, config, torch.float32, architecture)


def _named(
    spec: PathSpec | PolySpec, config: Config, dtype: torch.dtype, architecture: Architecture
) -> tuple[str, Given]:
    return f"{spec.key} {config} {dtype}", (spec, config, dtype, architecture)


def compile_ahead(
    arguments: argparse.Namespace, architecture: Architecture, time_left: Callable[[], bool]
) -> None:
    """Compiles until all is done or the time is over; the rest is compiled where it is launched."""
    given = wanted(arguments, architecture)
    start, done, kernels = time.perf_counter(), 0, 0
    if time_left():
        for _, made in in_processes(fill, given, arguments.jobs or processors()):
            done, kernels = done + 1, kernels + made
            if not time_left():
                break
    sys.stderr.write(
        f"{kernels} kernels of {done} configurations compiled ahead, {len(given) - done} not reached"
        f" ({time.perf_counter() - start:.1f} s)\n"
    )
