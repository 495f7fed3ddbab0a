"""The importance criteria that the score pass offers: one file each, all with one interface."""

from irprune.passes.criteria import (
    activation,
    energy_force,
    fisher,
    magnitude,
    random,
    redundancy,
    taylor,
)
from irprune.passes.criteria.base import Criterion, Measure, criterion_named, criterion_names

__all__ = [
    "Criterion",
    "Measure",
    "activation",
    "criterion_named",
    "criterion_names",
    "energy_force",
    "fisher",
    "magnitude",
    "random",
    "redundancy",
    "taylor",
]
