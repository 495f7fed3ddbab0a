"""fisher: mean square of the gradient of the training loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from irprune.passes.criteria.base import Measure, register
from irprune.passes.criteria.labelled import Labelled, LossGradient, OfLoss
from irprune.passes.criteria.structures import Structure


@register
@dataclass(frozen=True)
class Fisher(Labelled):
    """I = mean over structures of (∂L/∂z)² at z = 1: the diagonal of the empirical Fisher matrix.

    Theis et al., arXiv:1801.05787, with gates z. Unlike ``taylor``, what single structures ask for
    does not cancel.
    """

    name: ClassVar[str] = "fisher"

    def measure(self, loss: LossGradient) -> Measure:
        return _MeanOfSquares(loss)


class _MeanOfSquares(OfLoss):
    def of(self, structure: Structure, generator: Generator) -> Tensor:
        return self.loss.of(structure).square()
