"""Kernels compiled for an architecture that need not be here, by the name that a launch looks for.

Triton keeps what it compiles by a hash of all that a launch knows: specializations of operands, options
that are usual for a target. Versions of triton differ in it. So the way of a launch is taken up to
where it would start the kernel, with a driver that knows the architecture and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from irprune.kernels.triton.source import INDEX, POINTERS, Source
from irprune.kernels.tuner.architecture import Architecture


def compile_source(source: Source, architecture: Architecture) -> Any:
    """What triton makes of a kernel for an architecture."""
    dtypes = {INDEX: torch.int64, **{pointer: dtype for dtype, pointer in POINTERS.items()}}
    operands = [dtypes[kind] for kind in source.signature.values() if kind in dtypes]
    with _aside(source.fn, architecture):
        return source.fn.warmup(*operands, grid=(1,), **source.constexprs, **source.options)


@dataclass(frozen=True)
class _Driver:
    """What a launch asks a driver before it compiles."""

    target: Any

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def _aside(fn: Any, architecture: Architecture) -> Iterator[None]:
    """The driver of an architecture, and nothing compiled for the one that is here in its place."""
    from triton.runtime import driver

    before, kernels = driver._active, fn.device_caches
    driver._active, fn.device_caches = _Driver(architecture.target()), defaultdict(fn.create_binder)
    try:
        yield
    finally:
        driver._active, fn.device_caches = before, kernels
