"""Kernels compiled before they are needed, by all processors at once.

A launch compiles one kernel at a time while the GPU waits. Triton keeps what was compiled on disk, by
what a launch would ask for: it is found there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.gpu.choice import neighbours, widths
from benchmarks.gpu.kernels import DEGREE
from benchmarks.gpu.shapes import kernel_spec
from benchmarks.gpu.stages import in_order, variants
from irprune.devices import processors
from irprune.kernels.triton.config import Config, default
from irprune.kernels.triton.source import sources
from irprune.kernels.tuner.architecture import Architecture
from irprune.kernels.tuner.compile import compile_source
from irprune.kernels.tuner.lookup import lookup
from irprune.kernels.tuner.pool import in_processes
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

Given = tuple[PathSpec | PolySpec, Config, torch.dtype, Architecture]


def fill(
    spec: PathSpec | PolySpec, config: Config, dtype: torch.dtype, architecture: Architecture
) -> tuple[int, str | None]:
    """Compiles the kernels of one configuration: how many, and why not all. What fails here fails at
    its launch again.
    """
    made, failures = 0, []
    for source in sources(spec, config, dtype):
        try:
            compile_source(source, architecture)
            made += 1
        except Exception as error:  # whatever the compiler raises
            failures.append(f"{source.name}: {type(error).__name__}: {error}".splitlines()[0])
    return made, failures[0] if failures else None


def wanted(
    arguments: argparse.Namespace, architecture: Architecture
) -> Iterator[tuple[str, Given]]:
    """What the stages of a run launch, what matters most first, once each, by name.

    What is near the widths that are raced comes last: to compile that several loads are in flight takes
    triton many times as long, minutes for some.
    """
    first, *rest = arguments.dtypes
    stages, seen = set(arguments.stages), set()
    parts: list[tuple[set[str], Callable[[], Iterator[Given]]]] = [
        ({"correctness"}, lambda: _checked(arguments, architecture, [first])),
        ({"kernels"}, lambda: _raced(arguments, architecture)),
        ({"models", "captured"}, lambda: _served(arguments, architecture)),
        ({"correctness"}, lambda: _checked(arguments, architecture, rest)),
        ({"kernels"}, lambda: _near(arguments, architecture)),
    ]
    for where, part in parts:
        if stages & where:
            for given in part():
                name = name_of(*given[:3])
                if name not in seen:
                    seen.add(name)
                    yield name, given


def name_of(spec: PathSpec | PolySpec, config: Config, dtype: torch.dtype) -> str:
    """What stands for the kernels of a configuration."""
    return f"{spec.key} {config} {dtype}"


def _checked(
    arguments: argparse.Namespace, architecture: Architecture, dtypes: Sequence[str]
) -> Iterator[Given]:
    for dtype in dtypes:
        for item, keep, shape in in_order(arguments.layers, arguments.keep):
            spec = kernel_spec(item, keep, shape)
            for variant in variants(item):
                config = Config(default(spec).block, 1, 1, variant)
                yield spec, config, getattr(torch, dtype), architecture


def _widths(
    arguments: argparse.Namespace, architecture: Architecture
) -> Iterator[tuple[PathSpec | PolySpec, Config]]:
    for item, keep, shape in in_order(arguments.layers, arguments.keep):
        spec = kernel_spec(item, keep, shape)
        for config in widths(spec, lookup(spec, torch.float32, architecture, DEGREE)):
            yield spec, config


def _raced(arguments: argparse.Namespace, architecture: Architecture) -> Iterator[Given]:
    for spec, config in _widths(arguments, architecture):
        yield spec, config, torch.float32, architecture


def _near(arguments: argparse.Namespace, architecture: Architecture) -> Iterator[Given]:
    """What is near each width: one of them will be the fastest."""
    for spec, config in _widths(arguments, architecture):
        for near in neighbours(spec, config):
            yield spec, near, torch.float32, architecture


def _served(arguments: argparse.Namespace, architecture: Architecture) -> Iterator[Given]:
    """What serves the kernels of a model, by a table or by default, on the crystals of ``models``."""
    from benchmarks.gpu.models import SIZES, structure_for
    from irprune import api
    from irprune.data.batch import collate
    from irprune.kernelplan import kernel_nodes

    for model in arguments.models:
        graph = api.load(model)
        dtype = next((p.dtype for p in graph.gm.parameters()), torch.float32)
        structure = structure_for(model, graph, SIZES[0])
        degree = collate([structure], graph.atomistic, dtype).n_edges / len(structure)
        for _, module in kernel_nodes(graph.gm):
            if isinstance(module.spec, PathSpec | PolySpec):
                config = lookup(module.spec, dtype, architecture, degree)
                yield module.spec, config, dtype, architecture


def compile_ahead(
    arguments: argparse.Namespace, architecture: Architecture, seconds: float
) -> frozenset[str]:
    """Compiles until all is done or the time is over; gives the names of what is done.

    What is not is compiled where it is launched, or left out of a race. So is everything where this
    fails: it is said.
    """
    start, kernels, failure = time.perf_counter(), 0, None
    done: set[str] = set()
    asked: list[str] = []

    def given() -> Iterator[tuple[str, Given]]:
        try:
            for name, one in wanted(arguments, architecture):
                asked.append(name)
                yield name, one
        except Exception as error:  # what is known by then is compiled
            sys.stderr.write(f"not all is compiled ahead: {type(error).__name__}: {error}\n")

    try:
        made = in_processes(fill, given(), arguments.jobs or processors(), seconds)
        for name, (count, error) in made:
            kernels += count
            failure = failure or error
            if error is None:
                done.add(name)
    except Exception as error:  # the run can do without
        sys.stderr.write(f"not all is compiled ahead: {type(error).__name__}: {error}\n")
    if failure:
        sys.stderr.write(f"the first that does not compile: {failure}\n")
    sys.stderr.write(
        f"{kernels} kernels compiled ahead, all of {len(done)} configurations; {len(asked) - len(done)}"
        f" of those begun are not done ({time.perf_counter() - start:.1f} s)\n"
    )
    return frozenset(done)
