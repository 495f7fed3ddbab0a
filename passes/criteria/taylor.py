"""taylor: first-order change of the training loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from irprune.passes.criteria.base import Measure, Values, register
from irprune.passes.criteria.labelled import Labelled, LossGradient, OfLoss


@register
@dataclass(frozen=True)
class Taylor(Labelled):
    """Square of the first-order change of the loss when z goes from 1 to 0.

    I = (mean over structures of ∂L/∂z · z)² at z = 1, for the whole of the data: the first-order
    importance of Molchanov et al. (CVPR 2019, arXiv:1906.10771), with gates z.
    """

    name: ClassVar[str] = "taylor"

    def measure(self, loss: LossGradient) -> Measure:
        return _SquareOfMean(loss)


class _SquareOfMean(OfLoss):
    def finish(self, mean: Values) -> Values:
        return mean**2
