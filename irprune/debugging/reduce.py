"""A small graph on which a pipeline goes wrong in the same way, for a report or a test.

First passes are left out of the failing prefix, then calls out of the graph (:mod:`.cut`), as long as
the same check fails, or the same class of error is raised. What is left is 1-minimal: no single pass
and no single call can be left out. Weights keep their sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from irprune.debugging.bisect import first_failure
from irprune.debugging.cut import calls_of, cut
from irprune.debugging.failure import Failure, Runs, Trial
from irprune.debugging.minimize import smallest
from irprune.errors import IrpruneError, PipelineError
from irprune.passbase import Pass
from irprune.pipeline import Pipeline

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Reduction:
    """A graph, and the pipeline that fails on it."""

    graph: EquivariantGraph
    pipeline: Pipeline
    failure: Failure
    nodes_before: int
    """Nodes of the graph that was reduced."""
    runs: int


def reduce(
    pipeline: Pipeline, graph: EquivariantGraph, trial: Trial | None = None
) -> Reduction | None:
    """The smallest graph and pipeline found that fail as these do; None where nothing fails.

    Raises:
        PipelineError: the pipeline cannot run at all, or no check of the graph itself.
    """
    runs = Runs(trial)
    place, _ = first_failure(pipeline, graph, runs.trial)
    if place is None:
        return None
    failure, trial = place.failure, place.trial
    if not place.passes:
        raise PipelineError(f"the model cannot be checked before any pass: {failure}")

    def fails(passes: Sequence[Pass], candidate: EquivariantGraph) -> bool:
        try:
            Pipeline(tuple(passes)).check(candidate.facts)
        except PipelineError:
            return False
        return failure.same(trial.prefix(passes, candidate, failure))

    last = place.passes[-1]
    first = smallest(place.passes[:-1], lambda part: fails((*part, last), graph))
    passes = (*first, last)

    def part_fails(names: Sequence[str]) -> bool:
        try:
            return fails(passes, cut(graph, names))
        except IrpruneError:  # these calls are no graph
            return False

    names = smallest(calls_of(graph), part_fails)
    small = cut(graph, names) if names else graph
    return Reduction(small, Pipeline(passes), failure, len(graph.sites), runs.count)
