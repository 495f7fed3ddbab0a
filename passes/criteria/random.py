"""random: the control that every other criterion must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irprune.graph import EquivariantGraph
from irprune.passes.criteria.base import Criterion, Measure, Values, register


@register
@dataclass(frozen=True)
class Random(Criterion):
    """Uniform numbers in [0, 1)."""

    name: ClassVar[str] = "random"
    structures: ClassVar[bool] = False

    def prepare(self, graph: EquivariantGraph, seed: int) -> Measure:
        return _Uniform(seed)


@dataclass(frozen=True)
class _Uniform(Measure):
    seed: int

    def finish(self, mean: Values) -> Values:
        return np.random.default_rng(self.seed).random(len(mean))
