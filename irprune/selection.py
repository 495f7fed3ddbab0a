"""Selection: which groups go, so that the rest is a structure that the target can express.

Groups that a target ties (MACE has one channel count over all orders and layers) are ranked axis
by axis and joined rank by rank into *steps*: removing a step removes the least important group of
every tied axis. What is not tied is a step of its own. Everything else is a choice among steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from irprune.blocks import Axis
from irprune.cost import Stats, graph_stats
from irprune.dead import eliminate_dead
from irprune.errors import LegalityError, UsageError
from irprune.irreps import BoolMask, IrrepsType
from irprune.scores import Scores

if TYPE_CHECKING:
    from irprune.families.base import Legal, Tie
    from irprune.graph import EquivariantGraph

KINDS = ("channel", "radial", "path", "edge", "order", "scalar")


@dataclass(frozen=True)
class Step:
    """Groups that go together, from the axes of one tie (or one axis)."""

    classes: tuple[int, ...]
    score: float
    pool: str
    blocks: int
    """How many of the classes are channel blocks: what ``keep`` counts."""


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

    @classmethod
    def of(
        cls,
        graph: EquivariantGraph,
        scores: Scores,
        legal: Legal | None,
        kinds: Sequence[str],
    ) -> Pools:
        """Steps of the axes of the given kinds.

        Raises:
            UsageError: an unknown kind, an axis without a score, or nothing to select from.
        """
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown:
            raise UsageError(f"unknown axes {', '.join(unknown)}; known: {', '.join(KINDS)}")
        axes = {a.name: a for a in graph.axes()}
        ties: Sequence[Tie] = legal.ties if legal else ()
        ordered = {n for o in legal.orders for n in o.axes} if legal else set()
        blocked = set(legal.frozen) | ordered if legal else set()
        steps: list[Step] = []
        tied: set[str] = set()
        for tie in ties:
            members = [(axes[n], per) for n, per in tie.members if n in axes]
            tied |= {a.name for a, _ in members}
            if members and any(a.kind in kinds for a, _ in members):
                steps += _steps_of(tie.label, members, scores)
        for axis in axes.values():
            if axis.kind in kinds and axis.name not in tied | blocked:
                steps += _steps_of(axis.name, [(axis, 1)], scores)
        if not steps:
            raise UsageError(
                f"nothing to select: no free axis of kind {', '.join(kinds)} in this graph"
                + (f" for target {legal.target}" if legal else "")
            )
        sizes: dict[str, int] = {}
        for s in steps:
            sizes[s.pool] = sizes.get(s.pool, 0) + 1
        return cls(tuple(steps), sizes)

    def removal_order(self, minimum: int, scope: str) -> list[Step]:
        """Steps that may go, in order; each pool keeps ``minimum`` of its own at least.

        Args:
            minimum: steps that every pool keeps.
            scope: ``global`` ranks all steps by score; ``axis`` removes the same share of each.
        """
        ranked: list[tuple[float, int, Step]] = []
        rank: dict[str, int] = {}
        for i, step in enumerate(self.steps):
            r = rank[step.pool] = rank.get(step.pool, -1) + 1
            if self.sizes[step.pool] - r > minimum:
                share = (r + 1) / self.sizes[step.pool]
                ranked.append((step.score if scope == "global" else share, i, step))
        if scope == "global":
            ranked = _monotone(ranked)
        return [s for _, _, s in sorted(ranked, key=lambda x: (x[0], x[1]))]


def _monotone(ranked: list[tuple[float, int, Step]]) -> list[tuple[float, int, Step]]:
    """Within a pool a later step never sorts before an earlier one."""
    top: dict[str, float] = {}
    out = []
    for score, i, step in ranked:
        top[step.pool] = max(top.get(step.pool, -np.inf), score)
        out.append((top[step.pool], i, step))
    return out


def removed_mask(graph: EquivariantGraph, steps: Sequence[Step]) -> BoolMask:
    """The classes of some steps, [n_classes]."""
    out = np.zeros(graph.blocks.n_classes, bool)
    for step in steps:
        out[list(step.classes)] = True
    return out


def kept_after(graph: EquivariantGraph, steps: Sequence[Step]) -> BoolMask:
    """The legal class mask when these steps go."""
    return graph.blocks.without(removed_mask(graph, steps))


def choose_fraction(order: Sequence[Step], pools: Pools, keep: float) -> list[Step]:
    """The first steps of the order until only the fraction ``keep`` of the blocks is left."""
    weight = [s.blocks or 1 for s in pools.steps]
    goal = (1.0 - keep) * sum(weight)
    out, gone = [], 0.0
    for step in order:
        if gone + 0.5 * (step.blocks or 1) > goal:
            break
        out.append(step)
        gone += step.blocks or 1
    return out


def choose_budget(
    graph: EquivariantGraph,
    order: Sequence[Step],
    value: Callable[[Stats], float],
    limit: float,
    what: str,
) -> list[Step]:
    """The fewest steps after which ``value`` of the sliced graph is at most ``limit``.

    Raises:
        UsageError: not even the smallest legal structure fits; says what it costs.
    """

    def cost(n: int) -> float:
        keep = eliminate_dead(graph, kept_after(graph, order[:n]))
        elements = graph.blocks.elements(keep)
        return value(graph_stats(graph, elements, graph.edges_per_atom))

    low, high = 0, len(order)
    if cost(high) > limit:
        raise UsageError(
            f"a budget of {limit:.4g} {what} cannot be met: the smallest legal structure has"
            f" {cost(high):.4g}"
        )
    while low < high:
        middle = (low + high) // 2
        if cost(middle) <= limit:
            high = middle
        else:
            low = middle + 1
    return list(order[:low])


def check_ties(legal: Legal | None, counts: Mapping[str, int]) -> None:
    """Whether explicit counts fit the ties of a target; an order that goes wholly is no conflict.

    Raises:
        LegalityError: tied axes with different counts; names them.
    """
    for tie in legal.ties if legal else ():
        steps = {n: counts[n] // per for n, per in tie.members if counts.get(n)}
        if len(set(steps.values())) > 1:
            one_each = {steps[n]: n for n in reversed(list(steps))}
            listed = " and ".join(f"{counts[n]} of {n}" for n in one_each.values())
            raise LegalityError(
                f"{legal.target if legal else ''} ties {tie.label}: the same count everywhere, but"
                f" the structure asks for {listed}; use target surgery or graph for ragged ones"
            )


def choose_counts(graph: EquivariantGraph, scores: Scores, counts: Mapping[str, int]) -> BoolMask:
    """The legal class mask that keeps the ``counts`` best groups of the axes named.

    Raises:
        LegalityError: a count larger than its axis; names both.
    """
    removed = np.zeros(graph.blocks.n_classes, bool)
    axes = {a.name: a for a in graph.axes()}
    for name, count in counts.items():
        axis = axes.get(name)
        if axis is None or count > len(axis.groups):
            have = len(axis.groups) if axis else 0
            raise LegalityError(f"cannot keep {count} groups of {name}, which has {have}")
        order = np.argsort(scores.of(axis.groups, name), kind="stable")
        for i in order[: len(axis.groups) - count]:
            removed[axis.groups[int(i)]] = True
    return graph.blocks.without(removed)


def _order_of(graph: EquivariantGraph, axis: Axis, group: int) -> int:
    """The l that a group of an edge or message-order axis stands for."""
    t = graph.type_of(axis.node)
    assert isinstance(t, IrrepsType)
    span = graph.blocks.spans[axis.node, None if axis.kind == "edge" else axis.ir]
    (offset,) = np.flatnonzero(graph.blocks.class_of[span.ids] == group)
    return t.unit_irs[int(offset)][0] if axis.kind == "edge" else t.segments[int(offset)].l


def cut_orders(graph: EquivariantGraph, legal: Legal | None, lmax: int) -> BoolMask:
    """Classes of the edge attributes (and of message orders tied to them) above order ``lmax``."""
    names = {n for o in legal.orders for n in o.axes} if legal else set()
    removed = np.zeros(graph.blocks.n_classes, bool)
    found = False
    for axis in graph.axes():
        if axis.kind == "edge" or axis.name in names:
            found = True
            removed[[c for c in axis.groups if _order_of(graph, axis, c) > lmax]] = True
    if not found:
        raise UsageError("edge-lmax: this graph has no edge attributes whose orders can go")
    return removed
