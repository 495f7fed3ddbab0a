"""Two models on one structure: a profile of each, and their calls timed in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from irprune.passmanager import Progress, no_progress
from irprune.profile.model import Profile, ready
from irprune.profile.nodes import node_times
from irprune.profile.peaks import measure

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Comparison:
    """Profiles of two models, measured one after the other in one process."""

    first: Profile
    second: Profile
    rounds: tuple[tuple[float, float], ...]
    """Seconds of a call of (first, second) in each round. ``call`` of the profiles is the median."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Time of the second over that of the first, within each round."""
        return tuple(b / a for a, b in self.rounds)

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.ratios)


def in_turn(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[tuple[float, ...]]:
    """Times of all calls for each round; every round starts with another call.

    What slows the machine for a while slows all calls of a round, so their ratio can be trusted.
    Each is called once before, uncounted.
    """
    for call in calls:
        call()
    out = []
    for k in range(rounds):
        times = [0.0] * len(calls)
        for j in range(len(calls)):
            i = (j + k) % len(calls)
            start = clock()
            calls[i]()
            times[i] = clock() - start
        out.append(tuple(times))
    return out


def compare(
    first: EquivariantGraph,
    second: EquivariantGraph,
    atoms: Atoms,
    repeats: int = 5,
    progress: Progress = no_progress,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Measures two models on one structure, with the threads that torch has now.

    Nodes of the first are timed, then those of the second; then the calls of both in turn.

    Args:
        first: what the other is compared with.
        second: the other. It may have another dtype and another cutoff.
        atoms: the structure.
        repeats: calls per node, and rounds.
        progress: told what is being timed.
        clock: for the calls, in seconds.

    Raises:
        UsageError: a network that does not run on atoms, or a structure without neighbours.
        DataError: an element that one of the models does not know.
    """
    subjects = [ready(graph, atoms) for graph in (first, second)]
    dtypes = [s.potential.dtype for s in subjects]
    peaks = {dtype: measure(dtype) for dtype in dict.fromkeys(dtypes)}
    nodes = []
    for label, s, dtype in zip(("nodes", "nodes of the second"), subjects, dtypes, strict=True):

        def report(done: int, total: int, label: str = label) -> None:
            progress(label, done, total)

        nodes.append(node_times(s.graph, s.batch, peaks[dtype], repeats, report))
    progress("calls in turn", 0, None)
    rounds = in_turn([s.call for s in subjects], repeats, clock)
    one, two = (
        s.profile(peaks[dtype], statistics.median(r[i] for r in rounds), nodes[i], repeats)
        for i, (s, dtype) in enumerate(zip(subjects, dtypes, strict=True))
    )
    return Comparison(one, two, tuple((r[0], r[1]) for r in rounds))
