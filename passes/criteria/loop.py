"""The loop over structures that all criteria share: sums, progress, a checkpoint, halves, elements.

Structures are taken one at a time, so that the result does not depend on batching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Generator, Tensor

from irprune.atomistic import symbol
from irprune.data.frames import frame_name
from irprune.errors import DataError
from irprune.graph import EquivariantGraph
from irprune.passes.criteria.base import Measure, Values
from irprune.passes.criteria.structures import Structure

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.passes.criteria.checkpoint import Checkpoint

Progress = Callable[[int, int], None]

WHOLE, FIRST, SECOND = 0, 1, 2
"""Rows of the sums: all structures, and two halves of them; after them one row for each element."""


@dataclass(eq=False)
class Sums:
    """What the structures so far have added to each weighted mean."""

    values: Tensor
    """[rows, n_classes] float64, Σ weight · contribution."""
    weights: Tensor
    """[rows] float64, Σ weight."""
    generator: Generator
    done: int = 0
    """Structures looked at."""
    used: int = 0
    """Those of them that were not left out."""

    def add(self, weights: Tensor, found: Tensor) -> None:
        """Adds one structure, in float64 on the CPU."""
        for row in weights.nonzero().flatten().tolist():
            self.values[row] += weights[row] * found
        self.weights += weights
        self.used += 1

    def mean(self, row: int) -> Values | None:
        """The weighted mean, [n_classes]; None where nothing has been added."""
        weight = float(self.weights[row])
        return (self.values[row] / weight).numpy() if weight else None


def elements_of(frames: Sequence[Atoms]) -> list[int]:
    """Atomic numbers that occur, sorted."""
    return sorted({int(z) for atoms in frames for z in atoms.numbers})


def memberships(frames: Sequence[Atoms], seed: int) -> Tensor:
    """Weight of each structure in each mean, [n_frames, 3 + n_elements].

    1 for the whole and for its half, so that the halves tell how far the ranking depends on the
    data; for an element its share of the structure's atoms. Halves are drawn by the seed: kinds of
    structures often take turns in a file, and every other structure would be of some kinds only.
    """
    elements = elements_of(frames)
    out = torch.zeros(len(frames), 3 + len(elements), dtype=torch.float64)
    out[:, WHOLE] = 1.0
    drawn = torch.from_numpy(np.random.default_rng([seed, len(frames)]).permutation(len(frames)))
    out[drawn[0::2], FIRST] = 1.0
    out[drawn[1::2], SECOND] = 1.0
    for i, atoms in enumerate(frames):
        for k, z in enumerate(elements):
            out[i, 3 + k] = float((atoms.numbers == z).mean())
    return out


def accumulate(
    measure: Measure,
    graph: EquivariantGraph,
    frames: Sequence[Atoms],
    *,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    progress: Progress = lambda done, total: None,
) -> Sums:
    """Adds up what the structures contribute; continues where the checkpoint stands.

    Args:
        measure: made for ``graph``.
        graph: on the device to compute on.
        frames: the structures.
        seed: of the generator that the measure draws from, and of the halves.
        checkpoint: where the sums are kept while the loop runs.
        progress: called with the structures done and their number.

    Raises:
        UsageError: the checkpoint is of another run, or cannot be read.
        DataError: a structure on which the model gives numbers that are not finite.
    """
    weights = memberships(frames, seed)
    sums = Sums(
        torch.zeros(weights.shape[1], graph.blocks.n_classes, dtype=torch.float64),
        torch.zeros(weights.shape[1], dtype=torch.float64),
        Generator().manual_seed(seed),
    )
    if checkpoint is not None:
        checkpoint.restore(sums)
    for i in range(sums.done, len(frames)):
        found = measure.of(Structure.of(graph, frames[i]), sums.generator)
        if found is not None and not bool(torch.isfinite(found).all()):
            where = frame_name(frames, i, frames[i])
            raise DataError(
                f"score: {where} gives scores that are not finite; are atoms on top of each other?"
                " Remove it"
            )
        if found is not None:
            sums.add(weights[i], found.detach().to("cpu", torch.float64))
        sums.done = i + 1
        if checkpoint is not None:
            checkpoint.keep(sums, last=sums.done == len(frames))
        progress(sums.done, len(frames))
    return sums


@dataclass(frozen=True, eq=False)
class Finished:
    """Scores of the whole, of its halves (None where one is empty), and by element."""

    values: Values
    halves: tuple[Values, Values] | None
    elements: dict[str, Values]


def finish(measure: Measure, sums: Sums, frames: Sequence[Atoms]) -> Finished:
    """The scores of every mean."""
    means = [sums.mean(row) for row in range(len(sums.weights))]
    whole, first, second = means[:3]
    assert whole is not None
    halves = None
    if first is not None and second is not None:
        halves = (measure.finish(first), measure.finish(second))
    elements = {
        symbol(z): measure.finish(mean)
        for z, mean in zip(elements_of(frames), means[3:], strict=True)
        if mean is not None
    }
    return Finished(measure.finish(whole), halves, elements)
