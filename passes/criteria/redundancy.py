"""redundancy: how far the weights of a block are from those of the others (FPGM)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irprune.graph import EquivariantGraph
from irprune.ops.base import Matrix
from irprune.passes.criteria.base import Criterion, Measure, Values, register
from irprune.passes.criteria.units import Ids, factors_of_products, weight_matrices

_KINDS = ("channel", "radial", "scalar")
"""Axes whose entries are copies of one thing. Orders and paths have weights of different sizes."""


@register
@dataclass(frozen=True)
class Redundancy(Criterion):
    """Mean distance of a block's effective weights to those of the other blocks of its axis.

    All blocks of an axis have the same l. The weights that make or read a block, normalisation
    folded in, are its vector w; the score is the mean over the others of |w − w'|. The block with
    the smallest is nearest to the geometric median: the others stand for it best (He et al.,
    CVPR 2019, arXiv:1811.00250, with a mean in place of their sum, so that axes of different size
    compare). A block that is alone has the length of its vector.
    """

    name: ClassVar[str] = "redundancy"
    structures: ClassVar[bool] = False

    def prepare(self, graph: EquivariantGraph, seed: int) -> Measure:
        return _Distances(graph)


@dataclass(frozen=True, eq=False)
class _Distances(Measure):
    graph: EquivariantGraph

    def finish(self, mean: Values) -> Values:
        from scipy.spatial.distance import cdist

        out = np.full(len(mean), np.nan)
        vectors = self._vectors()
        for number, axis in enumerate(self.graph.axes()):
            if number not in vectors:
                continue
            rows = np.hstack(vectors[number])
            others = rows if len(rows) > 1 else np.zeros_like(rows)
            out[list(axis.groups)] = cdist(rows, others).sum(axis=1) / max(len(rows) - 1, 1)
        return out

    def _vectors(self) -> dict[int, list[Matrix]]:
        """Axis → its groups' weights [n_groups, d], from every matrix that holds some."""
        n = self.graph.blocks.n_classes
        axis_of, place = np.full(n, -1), np.zeros(n, np.int64)
        sizes = {}
        for number, axis in enumerate(self.graph.axes()):
            if axis.kind in _KINDS:
                axis_of[list(axis.groups)] = number
                place[list(axis.groups)] = np.arange(len(axis.groups))
                sizes[number] = len(axis.groups)
        found: dict[int, list[Matrix]] = defaultdict(list)
        for classes, rows in self._rows():
            on = axis_of[classes]
            for number in np.unique(on[on >= 0]).tolist():
                at, values = place[classes[on == number]], rows[on == number]
                turn = _occurrence(at)
                for t in range(int(turn.max()) + 1):
                    made = np.zeros((sizes[number], rows.shape[1]))
                    made[at[turn == t]] = values[turn == t]
                    found[number].append(made)
        return found

    def _rows(self) -> Iterator[tuple[Ids, Matrix]]:
        """Classes [n] and their weights [n, d]; products stand for the axes that they stand on."""
        stands_on: dict[int, list[int]] = defaultdict(list)
        for made, factor in factors_of_products(self.graph):
            for m, f in zip(made.tolist(), factor.tolist(), strict=True):
                if f not in stands_on[m]:
                    stands_on[m].append(f)
        for ids, rows in weight_matrices(self.graph):
            classes = self.graph.blocks.class_of[ids]
            yield classes, rows
            pairs = [(i, f) for i, c in enumerate(classes.tolist()) for f in stands_on.get(c, ())]
            if pairs:
                index, factors = np.array(pairs).T
                yield factors, rows[index]


def _occurrence(values: Ids) -> Ids:
    """How many times each value has come before."""
    seen: dict[int, int] = defaultdict(int)
    out = np.zeros(len(values), np.int64)
    for i, v in enumerate(values.tolist()):
        out[i] = seen[v]
        seen[v] += 1
    return out
