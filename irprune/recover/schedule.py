"""What a step is: which structures it sees, and at which learning rate."""

from __future__ import annotations

import math

import numpy as np

from irprune.recover.settings import Settings

LAST_RATE = 0.01
"""The cosine ends at this fraction of the peak."""


def rate(settings: Settings, step: int, steps: int, clock: float = 0.0) -> float:
    """Fraction of the peak rate at a step.

    A linear rise over the warm-up (at least to the first step), then half a cosine over what
    remains, or the peak.

    Args:
        settings: warmup and decay.
        step: from 0.
        steps: of the run.
        clock: share of the deadline that has passed; counts as the run where it is further.
    """
    done = max(step / max(steps, 1), clock)
    if settings.warmup:
        rise = (step + 1) / (max(1, int(steps * settings.warmup)) + 1)
        rise = max(rise, clock / settings.warmup)
        if rise < 1:
            return rise
    if settings.decay == "constant" or settings.optimizer == "schedule-free":
        return 1.0
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def chosen(step: int, size: int, n: int, seed: int) -> list[int]:
    """Numbers of the structures of one step: each epoch is a permutation that depends on its number.

    Needs no state, so that a resumed run sees the same structures.
    """
    first = step * size
    epochs = {
        e: np.random.default_rng([seed, e]).permutation(n)
        for e in range(first // n, (first + size - 1) // n + 1)
    }
    return [int(epochs[k // n][k % n]) for k in range(first, first + size)]


def ends_epoch(step: int, size: int, n: int) -> bool:
    """Whether the structures of this step are the last of an epoch."""
    return (step + 1) * size // n > step * size // n
