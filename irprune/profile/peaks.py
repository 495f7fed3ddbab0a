"""The peaks of this machine, measured: a matrix product and a copy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

SIZE, COPY = 1024, 1 << 24
"""Rows of the square matrices; elements that are copied."""


@dataclass(frozen=True)
class Peaks:
    """What bounds any kernel here."""

    flops: float
    """Floating-point operations per second of a square matrix product."""
    bandwidth: float
    """Bytes per second, read and written, of a copy that no cache holds."""

    def least(self, flops: float, size: float) -> float:
        """Seconds below which a kernel of these FLOPs and bytes cannot come."""
        return max(flops / self.flops, size / self.bandwidth)


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median time of a call, after one call that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(dtype: torch.dtype, repeats: int = 5) -> Peaks:
    """Both peaks with the threads that torch has now."""
    a, b = (torch.randn(SIZE, SIZE, dtype=dtype) for _ in range(2))
    out = torch.empty(SIZE, SIZE, dtype=dtype)
    product = seconds(lambda: torch.mm(a, b, out=out), repeats)
    source = torch.randn(COPY, dtype=dtype)
    target = torch.empty_like(source)
    copy = seconds(lambda: target.copy_(source), repeats)
    return Peaks(2.0 * SIZE**3 / product, 2.0 * COPY * source.element_size() / copy)
