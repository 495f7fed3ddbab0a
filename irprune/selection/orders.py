"""Whole orders: harmonics, messages and hidden features lose their highest l first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from irprune.blocks import Axis
from irprune.errors import UsageError
from irprune.irreps import BoolMask, IrrepsType
from irprune.scores import Scores

if TYPE_CHECKING:
    from irprune.families.base import Legal
    from irprune.graph import EquivariantGraph


def order_of_group(graph: EquivariantGraph, axis: Axis, group: int) -> int:
    """The l that a group of an edge or message-order axis stands for."""
    t = graph.type_of(axis.node)
    assert isinstance(t, IrrepsType)
    span = graph.blocks.spans[axis.node, None if axis.kind == "edge" else axis.ir]
    (offset,) = np.flatnonzero(graph.blocks.class_of[span.ids] == group)
    return t.unit_irs[int(offset)][0] if axis.kind == "edge" else t.segments[int(offset)].l


def order_steps(
    graph: EquivariantGraph, axes: Sequence[Axis], scores: Scores
) -> list[tuple[tuple[int, ...], float]]:
    """Classes and score of every order of tied order axes, the highest l first."""
    found: dict[int, tuple[list[int], float]] = {}
    for axis in axes:
        for group, score in zip(axis.groups, scores.of(axis.groups, axis.name), strict=True):
            classes, total = found.get(l := order_of_group(graph, axis, group), ([], 0.0))  # noqa: E741
            found[l] = ([*classes, group], total + float(score))
    return [(tuple(found[l][0]), found[l][1]) for l in sorted(found, reverse=True)]  # noqa: E741


def cut_orders(graph: EquivariantGraph, legal: Legal | None, lmax: int) -> BoolMask:
    """Classes of the edge attributes (and of message orders tied to them) above order ``lmax``."""
    names = {n for o in legal.orders for n in o.axes} if legal else set()
    removed = np.zeros(graph.blocks.n_classes, bool)
    found = False
    for axis in graph.axes():
        if axis.kind == "edge" or axis.name in names:
            found = True
            removed[[c for c in axis.groups if order_of_group(graph, axis, c) > lmax]] = True
    if not found:
        raise UsageError("edge-lmax: this graph has no edge attributes whose orders can go")
    return removed
