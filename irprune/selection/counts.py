"""Explicit structures: counts per axis; and a check of what is left of a choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from irprune.dead import eliminate_dead
from irprune.errors import LegalityError
from irprune.irreps import BoolMask
from irprune.scores import Scores
from irprune.selection.bounds import Bounds

if TYPE_CHECKING:
    from irprune.families.base import Legal
    from irprune.graph import EquivariantGraph
    from irprune.selection.pools import Pools


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


def check_kept(graph: EquivariantGraph, keep: BoolMask, pools: Pools, bounds: Bounds) -> None:
    """Whether the bounds still hold when blocks that the choice leaves dead go as well.

    Raises:
        LegalityError: an axis with another count; names it.
    """
    alive = eliminate_dead(graph, keep)
    ever = eliminate_dead(graph, np.ones(graph.blocks.n_classes, bool))
    for axis in pools.axes:
        chosen = int(keep[list(axis.groups)].sum())
        left = int(alive[list(axis.groups)].sum())
        asked = bounds.least(axis) if ever[list(axis.groups)].any() else 0
        if left == chosen or (not left and not asked):
            continue
        if left % bounds.align or left < asked:
            raise LegalityError(
                f"select: {chosen} groups of {axis.name} were to stay, but {chosen - left} of them"
                f" are dead without the rest, and {left} are not what minimum and align={bounds.align}"
                " allow; choose from fewer kinds of axes, or protect what feeds them"
            )
