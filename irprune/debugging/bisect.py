"""Where a pipeline goes wrong: the shortest prefix that fails, then the smallest part of its last pass.

Passes are run one after the other, and checked after each, as ``--verify-each`` does. The part of the
failing pass is found by delta debugging, in one of two ways:

- A pass that works node by node (``Pass.by_node``) is run again on some of the nodes that it
  rewrites. The part is a set of nodes.
- A pass that cuts what was selected (it requires ``masks``) is run again with some of the groups
  that the selection removes. The part is a set of groups, with the values whose blocks they are.

Other passes decide about the whole graph: no part of them can be run, and the result says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from irprune.debugging.failure import Failure, Runs, Trial
from irprune.debugging.minimize import smallest
from irprune.passbase import Pass
from irprune.pipeline import Pipeline

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Part:
    """The smallest part of a pass that fails in the same way."""

    kind: str
    """``nodes``, ``groups``, or ``pass`` where no smaller part can be run or fails."""
    names: tuple[str, ...] = ()
    """Nodes, or groups as ``axis[3]``."""
    of: int = 0
    """How many the pass has."""
    values: tuple[str, ...] = ()
    """Of groups: the values whose blocks they are."""
    reason: str = ""
    """Why the pass is taken as a whole."""

    def __str__(self) -> str:
        if self.kind == "pass":
            return f"the whole pass: {self.reason}"
        text = f"{len(self.names)} of {self.of} {self.kind}: {', '.join(self.names)}"
        return f"{text} (blocks of {', '.join(self.values)})" if self.values else text


@dataclass(frozen=True)
class Bisection:
    """What ``bisect`` found."""

    pipeline: str
    prefix: str | None
    """The shortest prefix that fails; None where none does. Empty where the model cannot be checked."""
    failing: str | None
    """The last pass of the prefix."""
    failure: Failure | None
    part: Part | None
    runs: int
    """How often a pass was run."""
    before: Failure | None = None
    """The checks that the model fails before any pass; they blame none."""

    def to_json(self) -> dict[str, Any]:
        from irprune.passmanager import check_json

        f, part = self.failure, self.part
        return {
            "pipeline": self.pipeline,
            "prefix": self.prefix,
            "pass": self.failing,
            "failed": [] if f is None else [check_json(c) for c in f.checks],
            "failure": None if f is None or not f.kind else str(f),
            "part": None if part is None else {
                "kind": part.kind, "names": list(part.names), "of": part.of,
                "values": list(part.values), "reason": part.reason,
            },
            "runs": self.runs,
            "before": [] if self.before is None else [check_json(c) for c in self.before.checks],
        }  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The failing pass with the graph that it was given."""

    passes: tuple[Pass, ...]
    given: EquivariantGraph
    failure: Failure
    trial: Trial
    """How it was run."""


def first_failure(
    pipeline: Pipeline, graph: EquivariantGraph, trial: Trial
) -> tuple[Place | None, Failure | None]:
    """The shortest prefix at which a check or a pass fails, and how the graph itself fails.

    Checks that the graph fails before any pass blame none.

    Raises:
        PipelineError: the pipeline cannot run at all.
    """
    pipeline.check(graph.facts)
    before = trial.check(graph)
    if before is not None and before.kind:
        return Place((), graph, before, trial), before
    ignore = frozenset(() if before is None else before.names)
    trial = replace(trial, teacher=graph, ignore=ignore)
    context = trial.context()
    for number, p in enumerate(pipeline.passes, 1):
        made, failure = trial.step(p, graph, context)
        if failure is not None:
            return Place(pipeline.passes[:number], graph, failure, trial), before
        assert made is not None
        graph = made
    return None, before


def bisect(pipeline: Pipeline, graph: EquivariantGraph, trial: Trial | None = None) -> Bisection:
    """The shortest failing prefix of a pipeline, and the smallest failing part of its last pass."""
    runs = Runs(trial)
    place, before = first_failure(pipeline, graph, runs.trial)
    if place is None:
        return Bisection(pipeline.text(), None, None, None, None, runs.count, before)
    if not place.passes:
        return Bisection(pipeline.text(), "", None, place.failure, None, runs.count, before)
    part = smallest_part(place)
    return Bisection(
        pipeline.text(),
        Pipeline(place.passes).text(),
        place.passes[-1].text(),
        place.failure,
        part,
        runs.count,
        before,
    )


def smallest_part(place: Place) -> Part:
    """A smallest part of the failing pass that fails in the same way."""
    p, given, trial = place.passes[-1], place.given, place.trial
    if p.by_node:
        return _nodes(p, given, place.failure, trial)
    if "masks" in p.requires and given.keep is not None:
        return _groups(p, given, place.failure, trial)
    return Part("pass", reason=f"{p.name} decides about the whole graph")


def _nodes(p: Pass, given: EquivariantGraph, failure: Failure, trial: Trial) -> Part:
    context = trial.context()
    trial.step(p, given, context, failure)
    candidates = tuple(dict.fromkeys(context.rewritten))

    def fails(part: Sequence[str]) -> bool:
        _, found = trial.step(p, given, trial.context(frozenset(part)), failure)
        return failure.same(found)

    if not candidates or not fails(candidates):
        return Part(
            "pass", reason=f"restricted to the nodes that it rewrites, {p.name} does not fail"
        )
    found = smallest(candidates, fails)
    if not found:
        return Part("pass", reason=f"{p.name} fails even where it rewrites no node")
    return Part("nodes", found, len(candidates))


def _groups(p: Pass, given: EquivariantGraph, failure: Failure, trial: Trial) -> Part:
    keep = given.keep
    assert keep is not None
    space = given.blocks
    names = {
        c: f"{axis.name}[{i}]"
        for axis in given.axes()
        for i, c in enumerate(axis.groups)
        if not keep[c]
    }

    def fails(part: Sequence[int]) -> bool:
        removed = np.zeros(space.n_classes, bool)
        removed[list(part)] = True
        _, found = trial.step(
            p, given.replace(keep=space.without(removed)), trial.context(), failure
        )
        return failure.same(found)

    if not names or not fails(tuple(names)):
        return Part(
            "pass", reason=f"with the groups of its axes alone removed, {p.name} does not fail"
        )
    found = smallest(tuple(names), fails)
    if not found:
        return Part("pass", reason=f"{p.name} fails even where no group is removed")
    values = {space.locate(int(e))[0].node for c in found for e in space.members[c]}
    return Part("groups", tuple(names[c] for c in found), len(names), tuple(sorted(values)))
