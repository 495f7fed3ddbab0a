"""Timing in turn: within every round each variant runs once, so that a busy machine slows all.

Only ratios of times of the same round are kept.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Call = Callable[[], object]
Clock = Callable[[], float]
SETTLED = 0.9
"""A warm-up call is settled if it takes more than this share of the one before it."""
MIN_WARMUP, MAX_WARMUP = 2, 6


def seconds(call: Call, clock: Clock = time.perf_counter) -> float:
    """Time of one call."""
    start = clock()
    call()
    return clock() - start


def settle(call: Call, clock: Clock = time.perf_counter) -> int:
    """Calls until calls no longer get faster (TorchScript specializes in the first few).

    Returns the number of calls made.
    """
    last = seconds(call, clock)
    for done in range(2, MAX_WARMUP + 1):
        now = seconds(call, clock)
        if done >= MIN_WARMUP and now > SETTLED * last:
            return done
        last = now
    return MAX_WARMUP


def in_turn(
    calls: Mapping[str, Call],
    repeats: int,
    before_round: Callable[[int], None] = lambda _: None,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Times of every variant, one per round; every round starts with another variant."""
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        before_round(repeat)
        shift = repeat % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(seconds(calls[name], clock))
    return times


def paired_ratios(times: Sequence[float], reference: Sequence[float]) -> dict[str, Any]:
    """Ratio of each round, with median and quartiles."""
    ratios = [t / r for t, r in zip(times, reference, strict=True)]
    q1, median, q3 = quartiles(ratios)
    return {
        "median": round(median, 4),
        "q1": round(q1, 4),
        "q3": round(q3, 4),
        "ratios": [round(r, 4) for r in ratios],
    }


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile; linear between the values."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return q1, median, q3
