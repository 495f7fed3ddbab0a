"""Dead blocks: provably zero, or read by nobody, found in both directions to a fixpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.base import Site, op_at

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Liveness:
    """For every element: may it be non-zero, and does anything read it."""

    nonzero: BoolMask
    needed: BoolMask

    @property
    def alive(self) -> BoolMask:
        return self.nonzero & self.needed


def liveness(graph: EquivariantGraph, elements: BoolMask) -> Liveness:
    """One forward and one backward sweep, with the elements outside the mask taken as zero."""
    space = graph.blocks
    nonzero = elements.copy()
    for name, site in graph.sites.items():
        span = space.spans.get((name, None))
        if span is None or not site.node.op.startswith("call"):
            continue
        op = op_at(site)
        if op is None:
            continue
        keep = space.keep_at(site, nonzero)
        got = op.nonzero(site, keep.operands, keep.axes)
        if got is not None:
            nonzero[span.start : span.start + span.size] &= got
    needed = np.zeros(space.n, bool)
    for site in reversed(list(graph.sites.values())):
        _mark_needed(graph, site, nonzero, elements, needed)
    return Liveness(nonzero, needed)


def _mark_needed(
    graph: EquivariantGraph, site: Site, nonzero: BoolMask, elements: BoolMask, needed: BoolMask
) -> None:
    space = graph.blocks
    if site.node.op == "output":
        for o in site.operands:
            needed[space.ids_of(o.name)] = True
        return
    if not site.node.op.startswith("call"):
        return
    op = op_at(site)
    if op is None or not isinstance(site.out, IrrepsType):
        if op is None or any(isinstance(t, IrrepsType) for t in site.types):
            for o in site.operands:
                needed[space.ids_of(o.name)] = True
        return
    keep = space.keep_at(site, nonzero)
    need = needed[space.ids_of(site.node.name)] & elements[space.ids_of(site.node.name)]
    operands, axes = op.needed(site, need, keep.operands, keep.axes)
    for o, mask in zip(site.operands, operands, strict=False):
        if mask is not None:
            needed[space.ids_of(o.name)] |= mask
    for axis, mask in axes.items():
        needed[space.ids_of(site.node.name, axis)] |= mask


def eliminate_dead(graph: EquivariantGraph, keep: BoolMask) -> BoolMask:
    """The legal class mask without the classes that are dead under ``keep``, to a fixpoint."""
    space = graph.blocks
    keep = space.close(keep.copy())
    while True:
        removable = keep & dead_classes(graph, keep)
        smaller = space.without(~keep | removable, prefer=keep)
        if int(smaller.sum()) >= int(keep.sum()):
            return keep
        keep = smaller


def dead_classes(graph: EquivariantGraph, keep: BoolMask) -> BoolMask:
    """Kept free classes none of whose elements is alive, [n_classes].

    A channel or order axis of a message is alive when any unit that it is a factor of is.
    """
    space = graph.blocks
    elements = space.elements(keep)
    live = liveness(graph, elements)
    alive = live.alive.copy()
    alive[space.message_axes] = False
    for out, factors in space.products:
        for f in factors:
            axis_of = f[space.message_axes[f]]
            hit = out[space.message_axes[f]]
            alive[axis_of[alive[hit]]] = True
    has = np.zeros(space.n_classes, bool)
    has[space.class_of[alive & elements]] = True
    return keep & ~has & ~space.fixed_classes & ~space.derived
