"""Latency of models, measured in turn so that a busy machine disturbs all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from irprune.passmanager import Progress, no_progress

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.evaluation.potential import Potential


def latencies(
    potentials: Sequence[Potential],
    atoms: Atoms,
    repeats: int = 5,
    progress: Progress = no_progress,
) -> list[float]:
    """Median seconds for energy and forces of one structure, for each model.

    The neighbour list is made beforehand: it is the same for all models.
    """
    batches = [p.collate([atoms]) for p in potentials]
    times: list[list[float]] = [[] for _ in potentials]
    for potential, batch in zip(potentials, batches, strict=True):
        potential.evaluate(batch)
    for repeat in range(repeats):
        progress("latency", repeat, repeats)
        for potential, batch, found in zip(potentials, batches, times, strict=True):
            start = time.perf_counter()
            potential.evaluate(batch)
            _wait(potential)
            found.append(time.perf_counter() - start)
    return [statistics.median(t) for t in times]


def _wait(potential: Potential) -> None:
    """GPUs work on after the call returns."""
    if potential.device.type == "cuda":
        import torch

        torch.cuda.synchronize(potential.device)
