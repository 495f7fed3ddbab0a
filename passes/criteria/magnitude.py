"""magnitude: the weights of a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irprune.graph import EquivariantGraph
from irprune.passes.criteria.base import Criterion, Measure, Values, register
from irprune.passes.criteria.units import hand_to_axes, weight_matrices


@register
@dataclass(frozen=True)
class Magnitude(Criterion):
    """Sum of squared effective weights (normalisation folded in) that make or read a block."""

    name: ClassVar[str] = "magnitude"
    structures: ClassVar[bool] = False

    def prepare(self, graph: EquivariantGraph, seed: int) -> Measure:
        return _Squares(graph)


@dataclass(frozen=True, eq=False)
class _Squares(Measure):
    graph: EquivariantGraph

    def finish(self, mean: Values) -> Values:
        total, seen = mean.copy(), np.zeros(len(mean), bool)
        for ids, rows in weight_matrices(self.graph):
            classes = self.graph.blocks.class_of[ids]
            np.add.at(total, classes, (rows**2).sum(axis=1))
            seen[classes] = True
        hand_to_axes(self.graph, total, seen)
        total[~seen] = np.nan
        return total
