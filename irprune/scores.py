"""Scores: how much each coupled group matters, by one criterion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irprune.errors import UsageError


@dataclass(frozen=True, eq=False)
class Scores:
    """Importance of every class of a graph's blocks; larger matters more.

    ``values`` [n_classes]; NaN where the criterion says nothing (fixed and derived classes, axes
    that it does not see).
    """

    values: NDArray[np.float64]
    criterion: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def of(self, groups: tuple[int, ...], axis: str) -> NDArray[np.float64]:
        """Scores of an axis's groups.

        Raises:
            UsageError: the criterion gave this axis no score.
        """
        found = self.values[list(groups)]
        if np.isnan(found).any():
            raise UsageError(
                f"criterion {self.criterion!r} gives no score for {axis}; score with energy-force,"
                " magnitude or random to select there"
            )
        return np.asarray(found, np.float64)
