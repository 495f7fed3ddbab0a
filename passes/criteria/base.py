"""Criterion: what a score measures; and the registry of criteria by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor

from irprune.errors import UsageError
from irprune.graph import EquivariantGraph

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.passes.criteria.structures import Structure

Values = NDArray[np.float64]


class Measure:
    """A criterion made ready for one graph."""

    def of(self, structure: Structure, generator: Generator) -> Tensor | None:
        """What one structure adds, [n_classes]; None leaves the structure out of the mean.

        All randomness comes from ``generator`` (on the CPU), so that a run can be continued.
        """
        raise NotImplementedError(f"{type(self).__name__} looks at no structures")

    def finish(self, mean: Values) -> Values:
        """Scores from the mean over the structures, [n_classes]; NaN where there is none.

        Criteria that look at no structures get zeros.
        """
        return mean


class Criterion:
    """One way to score blocks. Subclasses are frozen dataclasses; fields are options of score."""

    name: ClassVar[str]
    structures: ClassVar[bool] = True
    """Whether it looks at structures."""
    labels: ClassVar[bool] = False
    """Whether these must be labelled."""

    def prepare(self, graph: EquivariantGraph, seed: int) -> Measure:
        """The measure for a graph; its module is on the device to compute on."""
        raise NotImplementedError(f"criterion {self.name} does not say what it measures")

    def check(self, frames: Sequence[Atoms]) -> None:
        """Finds out before long work whether the structures will do.

        Raises:
            DataError: they will not; says which.
        """


_BY_NAME: dict[str, type[Criterion]] = {}

C = TypeVar("C", bound=type[Criterion])


def register(cls: C) -> C:
    """Class decorator: makes a criterion known under its name."""
    if cls.name in _BY_NAME:
        raise UsageError(f"a criterion named {cls.name!r} is already registered")
    _BY_NAME[cls.name] = cls
    return cls


def criterion_names() -> tuple[str, ...]:
    """The names of all criteria."""
    return tuple(sorted(_BY_NAME))


def criterion_named(name: str) -> type[Criterion]:
    """The criterion of that name.

    Raises:
        UsageError: there is none; lists those that are.
    """
    if name not in _BY_NAME:
        near = difflib.get_close_matches(name, _BY_NAME, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"score: unknown criterion {name!r}{hint} (criteria: {', '.join(criterion_names())})"
        )
    return _BY_NAME[name]
