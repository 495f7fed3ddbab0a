"""Budgets: the structure whose size is what was asked for.

Steps in order of removal give a chain of structures. Where the chain steps over the goal by more than
the tolerance, the step that does so is left out, with what comes after it in its pool, and the search
goes on with finer steps of other pools; then the same from below. Nothing is ever guessed: every
structure is measured as it would be sliced.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from irprune.cost import Stats, graph_stats
from irprune.dead import eliminate_dead
from irprune.errors import LegalityError
from irprune.graph import EquivariantGraph
from irprune.irreps import BoolMask
from irprune.selection.pools import Pools, Step, kept_after
from irprune.selection.structure import describe

TOLERANCE = 0.02
"""Relative to what was asked for."""
EXCHANGES = 300
"""Structures to try at most where chains of steps pass the goal by."""


@dataclass(frozen=True)
class Found:
    """A structure that was tried: the steps that go, and its value."""

    steps: tuple[Step, ...]
    value: float


@dataclass
class Search:
    """Structures of a graph by their value, each computed once."""

    graph: EquivariantGraph
    value: Callable[[BoolMask], float]
    """Of what an element mask leaves."""
    goal: float
    tolerance: float = TOLERANCE
    seen: dict[frozenset[Step], Found] = field(default_factory=dict)

    def at(self, steps: Sequence[Step]) -> Found:
        """The structure that is left when these steps go, dead blocks left out."""
        key = frozenset(steps)
        if key not in self.seen:
            elements = self.graph.blocks.elements(self.mask(steps))
            self.seen[key] = Found(tuple(steps), float(self.value(elements)))
        return self.seen[key]

    def mask(self, steps: Sequence[Step]) -> BoolMask:
        return eliminate_dead(self.graph, kept_after(self.graph, steps))

    def fits(self, found: Found) -> bool:
        return found.value <= self.goal

    def near(self, found: Found) -> bool:
        return abs(found.value - self.goal) <= self.tolerance * self.goal

    def fewest(self, base: Sequence[Step], more: Sequence[Step]) -> int | None:
        """How many of ``more`` must go after ``base`` to fit; None where all are too few."""
        if not self.fits(self.at([*base, *more])):
            return None
        low, high = 0, len(more)
        while low < high:
            middle = (low + high) // 2
            if self.fits(self.at([*base, *more[:middle]])):
                high = middle
            else:
                low = middle + 1
        return low

    def solve(self, order: Sequence[Step]) -> Found | None:
        """A structure not above the goal and close to it, or all that may stay where that fits."""
        forced = sum(s.forced for s in order)
        if self.fits(self.at(order[:forced])):
            return self.at(order[:forced])
        n = self.fewest((), order)
        if n is None:
            return None
        chain = self.at(order[:n])
        for attempt in (
            lambda: chain,
            lambda: self.from_above(order, forced),
            lambda: self.from_below(chain.steps),
        ):
            found = attempt()
            if found is not None and self.near(found):
                return found
        return None

    def from_above(self, order: Sequence[Step], start: int) -> Found | None:
        """Removes in order, without the steps that are too coarse, until one fits closely."""
        gone, rest = list(order[:start]), list(order[start:])
        while rest:
            n = self.fewest(gone, rest)
            if n is None:
                return None
            found = self.at([*gone, *rest[:n]])
            if self.near(found) or n == 0:
                return found
            coarse = rest[n - 1]
            gone += rest[: n - 1]
            rest = [s for s in rest[n:] if s.pool != coarse.pool]
        return None

    def from_below(self, gone: Sequence[Step]) -> Found | None:
        """Puts back the last steps that went, finer ones where one is too coarse."""
        kept = list(gone)
        back = [s for s in reversed(gone) if not s.forced]
        while back:
            low, high = 0, len(back)  # the most that can be put back
            while low < high:
                middle = (low + high + 1) // 2
                if self.fits(self.at(_less(kept, back[:middle]))):
                    low = middle
                else:
                    high = middle - 1
            kept = _less(kept, back[:low])
            if self.near(self.at(kept)):
                return self.at(kept)
            back = [s for s in back[low:] if low == len(back) or s.pool != back[low].pool]
        return None

    def exchange(self, order: Sequence[Step]) -> Found | None:
        """From the nearest structure, steps of one pool against steps of another while that helps."""
        at = min(self.seen.values(), key=lambda f: abs(f.value - self.goal))
        limit = len(self.seen) + EXCHANGES
        pools: dict[str, list[Step]] = {}
        for step in order:
            pools.setdefault(step.pool, []).append(step)
        while not self.near(at):
            gone = set(at.steps)
            out = {p: next((s for s in mine if s not in gone), None) for p, mine in pools.items()}
            back = {
                p: next((s for s in reversed(mine) if s in gone and not s.forced), None)
                for p, mine in pools.items()
            }
            best = at
            for leave, enter in itertools.product((None, *pools), repeat=2):
                less = out[leave] if leave else None
                more = back[enter] if enter else None
                if leave == enter or (less is None and more is None):
                    continue
                if len(self.seen) >= limit:
                    break
                steps = [s for s in at.steps if s is not more] + ([less] if less else [])
                found = self.at(steps)
                if abs(found.value - self.goal) < abs(best.value - self.goal):
                    best = found
                    if self.near(best):
                        break
            if best is at:
                return None
            at = best
        return at


def _less(steps: Sequence[Step], back: Sequence[Step]) -> list[Step]:
    gone = set(back)
    return [s for s in steps if s not in gone]


def choose_fraction(order: Sequence[Step], pools: Pools, keep: float) -> list[Step]:
    """The first steps of the order until only the fraction ``keep`` of the blocks is left."""
    goal = (1.0 - keep) * pools.weight
    out, gone = [], 0.0
    for step in order:
        if not step.forced and gone + 0.5 * step.weight > goal:
            break
        out.append(step)
        gone += step.weight
    return out


def choose_budget(
    graph: EquivariantGraph,
    order: Sequence[Step],
    value: Callable[[Stats], float],
    goal: float,
    what: str,
) -> list[Step]:
    """The least important steps after which ``value`` of the sliced graph is ``goal``, within 2 %.

    A structure that is not larger than the goal is preferred; one that is larger by less than the
    tolerance is taken where there is none.

    Raises:
        LegalityError: no structure is that close; names the nearest two with their values, or the
            largest where all that may stay costs less than the goal.
    """
    search = Search(
        graph, lambda kept: float(value(graph_stats(graph, kept, graph.edges_per_atom))), goal
    )
    whole = search.at([s for s in order if s.forced])
    if search.fits(whole) and not search.near(whole):
        raise LegalityError(_too_small(search, whole, what))
    found = search.solve(order)
    if found is None and not any(map(search.near, search.seen.values())):
        search.exchange(order)
    close = [f for f in search.seen.values() if search.near(f)]
    if found is None and close:
        found = min(close, key=lambda f: (not search.fits(f), abs(f.value - goal)))
    if found is None:
        raise LegalityError(_none_close(search, what))
    return list(found.steps)


def _told(search: Search, found: Found) -> str:
    """Value, share of the graph, and irreps per layer."""
    blocks = search.graph.blocks
    total = search.value(blocks.elements(np.ones(blocks.n_classes, bool)))
    left = describe(search.graph, search.mask(found.steps))
    return f"{found.value:.4g} ({found.value / total:.1%}: {left})"


def _too_small(search: Search, whole: Found, what: str) -> str:
    """The error where nothing has to go."""
    return (
        f"a budget of {search.goal:.4g} {what} cannot be met: all that may stay has only"
        f" {_told(search, whole)}; ask for no more than that"
    )


def _none_close(search: Search, what: str) -> str:
    """The error where no structure is close: the nearest on both sides."""
    tried = search.seen.values()
    below = [f for f in tried if search.fits(f)]
    above = min((f for f in tried if not search.fits(f)), key=lambda f: f.value)
    if not below:
        return (
            f"a budget of {search.goal:.4g} {what} cannot be met: the smallest legal structure has"
            f" {_told(search, above)}"
        )
    least = max(below, key=lambda f: f.value)
    return (
        f"no legal structure has {search.goal:.4g} {what} within 2 %: the nearest that were found have"
        f" {_told(search, least)} and {_told(search, above)}; ask for one of these, or choose from"
        " more kinds of axes"
    )
