"""The stopwatch of latency budgets: two models timed in turn on one structure on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from irprune.profile.compare import in_turn
from irprune.profile.model import Subject, ready

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.graph import EquivariantGraph


@dataclass
class PairedStopwatch:
    """Energy, forces and stress of one structure, neighbour list left out; original and candidate in
    turn, so that a busy machine slows both.
    """

    atoms: Atoms
    optimized: bool = False
    """Time what ``irprune.optimize`` makes of the models: the fast path, not the graph as it is."""
    clock: Callable[[], float] = time.perf_counter
    _first: dict[int, Subject] = field(default_factory=dict)

    def __call__(
        self, original: EquivariantGraph, candidate: EquivariantGraph, rounds: int
    ) -> Sequence[tuple[float, float]]:
        """Seconds of (original, candidate) in each round."""
        if id(original) not in self._first:
            self._first[id(original)] = self._ready(original)
        subjects = (self._first[id(original)], self._ready(candidate))
        found = in_turn([s.call for s in subjects], rounds, self.clock)
        return [(a, b) for a, b in found]

    def _ready(self, graph: EquivariantGraph) -> Subject:
        if self.optimized:
            from irprune.api import optimize

            graph = optimize(graph, verify=False)
        return ready(graph, self.atoms)

    def to_json(self) -> dict[str, Any]:
        return {"atoms": len(self.atoms), "optimized": self.optimized}


def structure_for(graph: EquivariantGraph, frames: Sequence[Atoms] | None, size: int) -> Atoms:
    """The first structure given, or a generated crystal, repeated up to ``size`` atoms.

    Raises:
        UsageError: a network that does not run on atoms.
    """
    from irprune.data.generate import generate, repeated
    from irprune.errors import UsageError

    if graph.atomistic is None:
        raise UsageError(
            "select: latency= needs an interatomic potential, which can be timed on atoms; for this"
            " network use params= or flops="
        )
    if frames:
        return repeated(frames[0], size)
    made = generate(graph.atomistic, 12, seed=0, max_atoms=8)
    return repeated(next((a for a in made if a.pbc.all()), made[0]), size)
