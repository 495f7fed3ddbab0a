"""Pools: what may go, in order of removal, for one target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from irprune.blocks import Axis
from irprune.errors import UsageError
from irprune.irreps import BoolMask
from irprune.scores import Scores
from irprune.selection.bounds import Bounds, order_of, protected
from irprune.selection.orders import order_steps

if TYPE_CHECKING:
    from irprune.families.base import Legal
    from irprune.graph import EquivariantGraph

KINDS = ("channel", "radial", "path", "edge", "order", "scalar")
ELSEWHERE = {
    "depth": (
        "layers have no score that compares with that of a block; the pass drop-layers removes those"
        " without which forces change least: put drop-layers{count=1} before score"
    ),
    "correlation": (
        "correlation orders go from the highest down, without a choice; put limit-correlation{order=2}"
        " before score"
    ),
    "elements": (
        "elements are named, not chosen; put specialize-elements{elements=[H,O]} after what prunes"
        " and trains, or give --elements to optimize"
    ),
}
"""What can go, but not by score: which pass to use."""
ORDERS = ("edge", "order")
"""Kinds whose groups are whole orders."""
SCOPES = ("global", "layer", "l", "axis")
_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=[._]|$)")


@dataclass(frozen=True)
class Step:
    """Groups that go together, from the axes of one tie (or one axis)."""

    classes: tuple[int, ...]
    score: float
    pool: str
    blocks: int
    """How many of the classes are channel blocks: what ``keep`` counts."""
    joined: int = 1
    """How many steps of the pool this is, where only some counts are allowed."""
    forced: bool = False
    """Whether it goes whatever is asked for: the whole axis is no count that is allowed."""

    @property
    def weight(self) -> int:
        """Blocks; a step of other axes counts as one."""
        return self.blocks or self.joined


def _steps_of(pool: str, members: Sequence[tuple[Axis, int]], scores: Scores) -> list[Step]:
    """Rank-by-rank steps of tied axes, least important first."""
    ranked = []
    for axis, per in members:
        values = scores.of(axis.groups, axis.name)
        order = np.argsort(values, kind="stable")
        ranked.append(([axis.groups[i] for i in order], values[order], per, axis.kind))
    count = min(len(groups) // per for groups, _, per, _ in ranked)
    steps = []
    for r in range(count):
        classes: list[int] = []
        score, blocks = 0.0, 0
        for groups, values, per, kind in ranked:
            classes += groups[r * per : (r + 1) * per]
            score += float(values[r * per : (r + 1) * per].sum())
            blocks += per * (kind == "channel")
        steps.append(Step(tuple(classes), score, pool, blocks))
    return steps


@dataclass(frozen=True)
class Pools:
    """All steps of a graph for one target: what may go, pool by pool, in order of removal."""

    steps: tuple[Step, ...]
    sizes: Mapping[str, int]
    members: Mapping[str, tuple[tuple[Axis, int], ...]] = field(default_factory=dict)
    """Pool → its axes, and the groups that a step takes of each."""
    layers: Mapping[str, str] = field(default_factory=dict)
    """Pool → the layer that it belongs to; its own name where it is tied over several."""

    @classmethod
    def of(
        cls,
        graph: EquivariantGraph,
        scores: Scores,
        legal: Legal | None,
        kinds: Sequence[str],
        protect: Sequence[str] = (),
    ) -> Pools:
        """Steps of the axes of the given kinds, without those of protected axes.

        Raises:
            UsageError: an unknown kind or one that another pass removes (names it), an axis without
                a score, a pattern that protects nothing, or nothing to select from.
        """
        for kind in kinds:
            if kind in ELSEWHERE:
                raise UsageError(f"select: {kind} is no axis to select from: {ELSEWHERE[kind]}")
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown:
            raise UsageError(f"unknown axes {', '.join(unknown)}; known: {', '.join(KINDS)}")
        axes = {a.name: a for a in graph.axes()}
        grouped = _grouped(axes, legal)
        safe = _protected(graph, grouped, protect) | set(legal.frozen if legal else ())
        members: dict[str, tuple[tuple[Axis, int], ...]] = {}
        steps: list[Step] = []
        for label, group in grouped.items():
            chosen = any(a.kind in kinds for a, _ in group)
            if chosen and not any(a.name in safe for a, _ in group):
                members[label] = tuple(group)
                steps += _steps_of(label, group, scores)
        for tie in legal.orders if legal else ():
            group = [(axes[n], 1) for n in tie.axes if n in axes and axes[n].kind in ORDERS]
            chosen = any(a.kind in kinds for a, _ in group)
            if chosen and not any(a.name in safe for a, _ in group):
                found = order_steps(graph, [a for a, _ in group], scores)
                steps += [Step(c, s, tie.label, 0) for c, s in found]
                members[tie.label] = tuple(group)
        if not steps:
            raise UsageError(
                f"nothing to select: no free axis of kind {', '.join(kinds)} in this graph"
                + (f" for target {legal.target}" if legal else "")
            )
        sizes: dict[str, int] = {}
        for s in steps:
            sizes[s.pool] = sizes.get(s.pool, 0) + 1
        layers = {p: _layer(graph, p, [a for a, _ in group]) for p, group in members.items()}
        return cls(tuple(steps), sizes, members, layers)

    @property
    def weight(self) -> int:
        """Of all steps: what a fraction to keep is a fraction of."""
        return sum(s.weight for s in self.steps)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All axes that something may go from."""
        return tuple(a for group in self.members.values() for a, _ in group)

    def allowed(self, bounds: Bounds) -> list[Step]:
        """The steps within the bounds: joined where only some counts are allowed.

        Raises:
            LegalityError: an axis of which no allowed number can stay.
        """
        out: list[Step] = []
        for pool, members in self.members.items():
            mine = [s for s in self.steps if s.pool == pool]
            counts = bounds.removals(pool, members, len(mine))
            for start, end in zip((0, *counts), counts, strict=False):
                if end > start:
                    out.append(_join(mine[start:end], forced=end == counts[0]))
        return out

    def removal_order(self, bounds: Bounds, scope: str) -> list[Step]:
        """Steps that may go, in order: forced ones, then by score within what ``scope`` keeps level.

        Args:
            bounds: what every pool keeps.
            scope: ``global`` ranks all steps by score; ``layer``, ``l`` and ``axis`` remove the same
                share of every layer, order or axis, and rank by score within it.
        """
        totals: dict[str, int] = {}
        for s in self.steps:
            key = self._key(s.pool, scope)
            totals[key] = totals.get(key, 0) + s.weight
        shares: list[tuple[float, Step]] = []
        gone: dict[str, int] = {}
        for step in _by_score(self.allowed(bounds)):
            key = self._key(step.pool, scope)
            gone[key] = gone.get(key, 0) + step.weight
            shares.append((gone[key] / totals[key], step))
        shares.sort(key=lambda x: (not x[1].forced, x[0]))
        return [s for _, s in shares]

    def _key(self, pool: str, scope: str) -> str:
        """What a pool shares its share with."""
        if scope == "global":
            return ""
        if scope == "axis":
            return pool
        if scope == "layer":
            return self.layers[pool]
        orders = {order_of(a) for a, _ in self.members[pool]}
        kinds = sorted({a.kind for a, _ in self.members[pool]})
        (order,) = orders if len(orders) == 1 else (None,)
        return " ".join(kinds) if order is None else f"l = {order}"


def _join(steps: Sequence[Step], forced: bool) -> Step:
    """Steps of one pool that can only go together."""
    if len(steps) == 1 and not forced:
        return steps[0]
    classes = tuple(c for s in steps for c in s.classes)
    score = sum(s.score for s in steps)
    blocks = sum(s.blocks for s in steps)
    return Step(classes, score, steps[0].pool, blocks, len(steps), forced)


def _by_score(steps: Sequence[Step]) -> list[Step]:
    """Least important first; within a pool a later step never comes before an earlier one."""
    top: dict[str, float] = {}
    ranked = []
    for step in steps:
        own = step.score / step.joined
        top[step.pool] = max(top.get(step.pool, -np.inf), own)
        ranked.append((-np.inf if step.forced else top[step.pool], step))
    return [s for _, s in sorted(ranked, key=lambda x: x[0])]


Members = list[tuple[Axis, int]]


def _grouped(axes: Mapping[str, Axis], legal: Legal | None) -> dict[str, Members]:
    """Pool → axes: ties first, then every axis that no tie and no order names."""
    found: dict[str, Members] = {}
    taken = {n for o in legal.orders for n in o.axes} if legal else set()
    for tie in legal.ties if legal else ():
        members = [(axes[n], per) for n, per in tie.members if n in axes]
        taken |= {a.name for a, _ in members}
        if members:
            found[tie.label] = members
    frozen = set(legal.frozen) if legal else set()
    for axis in axes.values():
        if axis.name not in taken | frozen:
            found[axis.name] = [(axis, 1)]
    return found


def _protected(
    graph: EquivariantGraph, grouped: Mapping[str, Members], patterns: Sequence[str]
) -> set[str]:
    """Axes that patterns name by their own name, that of their tie, or that of their layer."""
    labels = {node: label for label, node in graph.labels.items()}
    names = {a.name: [a.name] for a in graph.axes()}
    for label, members in grouped.items():
        for axis, _ in members:
            names[axis.name].append(label)
    for axis in graph.axes():
        if axis.node in labels:
            names[axis.name].append(labels[axis.node])
    return protected(patterns, names, graph.labels)


def _layer(graph: EquivariantGraph, pool: str, axes: Sequence[Axis]) -> str:
    """The layer of a pool: the first number in the paths of its modules, else the module itself.

    A pool that is tied over several layers is a layer of its own.
    """
    paths = [str(graph.sites[a.node].node.target) for a in axes]
    numbers = {match[1] for path in paths if (match := _NUMBER.search(path))}
    if len(numbers) > 1:
        return pool
    return numbers.pop() if numbers else paths[0]


def orders_off(classes: BoolMask) -> Step:
    """A step that goes whatever is asked for, and counts as no block: orders that are cut off."""
    return Step(tuple(np.flatnonzero(classes).tolist()), -np.inf, "edge-lmax", 0, 0, forced=True)


def removed_mask(graph: EquivariantGraph, steps: Sequence[Step]) -> BoolMask:
    """The classes of some steps, [n_classes]."""
    out = np.zeros(graph.blocks.n_classes, bool)
    for step in steps:
        out[list(step.classes)] = True
    return out


def kept_after(graph: EquivariantGraph, steps: Sequence[Step]) -> BoolMask:
    """The legal class mask when these steps go."""
    return graph.blocks.without(removed_mask(graph, steps))
