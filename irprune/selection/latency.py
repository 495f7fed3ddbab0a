"""Budgets on measured latency: few structures are timed, the others are predicted.

Sizes of structures, relative to the original, are their FLOPs or what a latency model says of them
(``irprune.latency``). The time of a structure is close to linear in its size, above a constant (what
does not shrink). A line through the timed structures on both sides of the goal says which size to try
next. Time also jumps: 49 channels can take longer than 48 by more than the tolerance, where vector
registers hold eight. Then what crosses the jump goes for good, and the search goes on with what else
may stay instead. A candidate that is returned has been timed twice.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from irprune.cost import graph_stats
from irprune.errors import LegalityError
from irprune.graph import EquivariantGraph
from irprune.irreps import BoolMask
from irprune.selection.budget import TOLERANCE, Found, Search
from irprune.selection.pools import Step
from irprune.selection.structure import describe, irreps_kept
from irprune.slicing import slice_graph

CANDIDATES = 12
"""Structures to time at most."""
LONGEST = 8
"""Times the rounds that were asked for, at most, where the machine is noisy."""
FINE = 0.01
"""How close the size of a candidate comes to what is predicted, relative."""


Stopwatch = Callable[[EquivariantGraph, EquivariantGraph, int], Sequence[tuple[float, float]]]
"""(original, candidate, rounds) → seconds of both in each round, measured in turn."""
Size = Callable[[EquivariantGraph, BoolMask | None], float]
"""Of what an element mask leaves of a graph; None leaves all. Any unit."""


def flops_of(graph: EquivariantGraph, elements: BoolMask | None) -> float:
    """FLOPs per atom."""
    return graph_stats(graph, elements, graph.edges_per_atom).flops_per_atom


@dataclass(frozen=True)
class Timed:
    """A structure, and its time over that of the original in each round."""

    found: Found
    size: float
    """Of the original's: what its time was predicted from."""
    flops: float
    """Of the original's."""
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.ratios) == 1:
            return self.ratios[0], self.ratios[0]
        q1, _, q3 = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return q1, q3

    @property
    def error(self) -> float:
        """Standard error of the median, from the quartiles of a normal distribution."""
        low, high = self.quartiles
        return 0.93 * (high - low) / len(self.ratios) ** 0.5

    def __str__(self) -> str:
        low, high = self.quartiles
        rounds = f"{len(self.ratios)} round" + "s" * (len(self.ratios) > 1)
        return f"{self.ratio:.3f} of the time (quartiles {low:.3f} to {high:.3f}, {rounds})"

    def to_json(self) -> dict[str, Any]:
        low, high = self.quartiles
        return {
            "flops": self.flops,
            "predicted": self.size,
            "ratio": self.ratio,
            "q1": low,
            "q3": high,
            "ratios": list(self.ratios),
        }


@dataclass
class LatencySearch:
    """Structures of one order of removal by their measured time."""

    graph: EquivariantGraph
    order: Sequence[Step]
    goal: float
    """Time over that of the original."""
    stopwatch: Stopwatch
    rounds: int
    original: EquivariantGraph
    """What times and sizes are shares of: the graph itself, or what it came from."""
    told: Callable[[str, int, int | None], None] = lambda *_: None
    size: Size = flops_of
    timed: list[Timed] = field(default_factory=list)
    chain: list[Timed] = field(default_factory=list)
    """Of these, what belongs to the order of removal that is searched now: one beside a jump starts
    another."""
    gone: frozenset[Step] = frozenset()
    """What every structure of this order lacks: steps that cross a jump, and those before them."""
    sliced: dict[Found, EquivariantGraph] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.total = self.size(self.original, None)
        self.sizes = Search(self.graph, lambda kept: self.size(self.graph, kept), 0.0, FINE)

    def find(self) -> Timed:
        """The structure whose time is the goal, within 2 %, timed again to confirm it.

        Raises:
            LegalityError: none was found; names the nearest with their times.
        """
        forced = [s for s in self.order if s.forced]
        whole, least = self.sizes.at(forced), self.sizes.at(self.order)
        if self.goal >= 1.0 and not forced:
            return self._time(whole)
        for _ in range(CANDIDATES):
            found = self._candidate() or (self._beside_the_jump() and self._candidate())
            if not found:
                break
            here = self._time(found)
            if self._near(here):
                again = self._time(found, 2 * self.rounds)
                if self._near(again):
                    return again
                self._forget(here)
        raise LegalityError(self._none_close(least))

    def _candidate(self) -> Found | None:
        """The structure nearest to where the time should be the goal, among those that may still be."""
        whole = self.sizes.at([s for s in self.order if s.forced or s in self.gone])
        least = self.sizes.at(self.order)
        share = min(max(self.predict(), least.value / self.total), whole.value / self.total)
        self.sizes.goal = share * self.total
        if self.sizes.goal < whole.value:
            self.sizes.fewest((), self.order)  # most often close enough
        done = {t.found for t in self.timed}
        near = [f for f in self.sizes.seen.values() if self.sizes.near(f) and self._belongs(f)]
        if not any(f not in done for f in near):
            self.sizes.solve(self.order)
        low = max((t.size for t in self.chain if t.ratio <= self.goal), default=-1.0)
        high = min((t.size for t in self.chain if t.ratio > self.goal), default=2.0)
        found = [
            f
            for f in self.sizes.seen.values()
            if f not in done and self._belongs(f) and low < f.value / self.total < high
        ]
        return min(found, key=lambda f: abs(f.value - self.sizes.goal), default=None)

    def _belongs(self, found: Found) -> bool:
        return self.gone.issubset(found.steps)

    def _beside_the_jump(self) -> bool:
        """Whether there is another order: what the last structure below the goal lacks, and the next
        above has, goes first, with what goes before it in its pools. The other pools may keep more.
        """
        below = max((t for t in self.chain if t.ratio <= self.goal), key=_size, default=None)
        above = min((t for t in self.chain if t.ratio > self.goal), key=_size, default=None)
        if below is None or above is None:
            return False
        pools = {s.pool for s in set(below.found.steps) - set(above.found.steps) if not s.forced}
        first = frozenset(s for s in below.found.steps if s.pool in pools or s in self.gone)
        if first == self.gone:
            return False
        self.gone, self.chain = first, [below]
        ahead = [s for s in self.order if s.forced or s in first]
        self.order = [*sorted(ahead, key=lambda s: not s.forced), *_without(self.order, ahead)]
        return True

    def _forget(self, timed: Timed) -> None:
        """A time that was not confirmed."""
        self.timed.remove(timed)
        self.chain.remove(timed)

    def predict(self) -> float:
        """The share of the size at which the time should be the goal."""
        points = sorted({1.0: 1.0, **{t.size: t.ratio for t in self.chain}}.items())
        below = [p for p in points if p[1] <= self.goal]
        above = [p for p in points if p[1] > self.goal]
        if len(points) == 1:
            return self.goal
        if below and above:
            pair = (max(below, key=lambda p: p[1]), min(above, key=lambda p: p[1]))
        elif above:
            pair = (points[0], points[-1])
        else:
            return points[-1][0]
        (x0, y0), (x1, y1) = pair
        if y1 <= y0:  # noise: less was not faster
            return x0 * self.goal / y0
        return x0 + (self.goal - y0) * (x1 - x0) / (y1 - y0)

    def _near(self, timed: Timed) -> bool:
        return abs(timed.ratio - self.goal) <= TOLERANCE * self.goal

    def _time(self, found: Found, rounds: int | None = None) -> Timed:
        self.told("latency of a candidate", len(self.timed), CANDIDATES)
        if found not in self.sliced:
            keep = self.sizes.mask(found.steps)
            self.sliced[found] = slice_graph(self.graph.replace(keep=keep))
        flops = self.sliced[found].stats().flops_per_atom / self.original.stats().flops_per_atom
        rounds = rounds or self.rounds
        ratios: tuple[float, ...] = ()
        for _ in range(LONGEST):
            pairs = self.stopwatch(self.original, self.sliced[found], rounds)
            ratios += tuple(b / a for a, b in pairs)
            made = Timed(found, found.value / self.total, flops, ratios)
            if self._clear(made):
                break
        self.timed.append(made)
        self.chain.append(made)
        return made

    def _clear(self, timed: Timed) -> bool:
        """Whether more rounds would change nothing: the ratio is known well, or is far off."""
        tolerance = TOLERANCE * self.goal
        far = abs(timed.ratio - self.goal) > tolerance + 3 * timed.error
        return far or timed.error <= 0.5 * tolerance

    def _none_close(self, least: Found) -> str:
        below = [t for t in self.timed if t.ratio <= self.goal]
        above = [t for t in self.timed if t.ratio > self.goal]

        def told(t: Timed) -> str:
            return f"{t} with {describe(self.graph, self.sizes.mask(t.found.steps))}"

        sides = [max(below, key=lambda t: t.ratio)] if below else []
        sides += [min(above, key=lambda t: t.ratio)] if above else []
        listed = " and ".join(told(t) for t in sides)
        if not below and any(t.found == least for t in above):
            return (
                f"select: latency={self.goal:.1%} cannot be met: the smallest legal structure takes"
                f" {told(next(t for t in above if t.found == least))}"
            )
        return (
            f"select: no structure was measured at {self.goal:.3f} of the time of the original within"
            f" 2 %, of {len(self.timed)} that were timed: the nearest take {listed}; ask for one of"
            " these, choose from more kinds of axes, or give more rounds on a quieter machine"
        )


def _size(timed: Timed) -> float:
    return timed.size


def _without(order: Sequence[Step], gone: Sequence[Step]) -> list[Step]:
    left = frozenset(gone)
    return [s for s in order if s not in left]


def report(search: LatencySearch, chosen: Timed) -> dict[str, Any]:
    """What was measured, for the report of a run."""
    mask = search.sizes.mask(chosen.found.steps)
    return {
        "goal": search.goal,
        **chosen.to_json(),
        "irreps": irreps_kept(search.graph, mask),
        "timed": [t.to_json() for t in search.timed],
    }
