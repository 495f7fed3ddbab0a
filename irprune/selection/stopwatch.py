"""The stopwatch of latency budgets: two models timed in turn on one structure on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from irprune.evaluation.potential import Potential
from irprune.latency import estimate
from irprune.profile.compare import in_turn
from irprune.profile.model import Subject, ready
from irprune.profile.peaks import Peaks, measure

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.graph import EquivariantGraph
    from irprune.irreps import BoolMask


@dataclass
class PairedStopwatch:
    """Energy, forces and stress of one structure, neighbour list left out; original and candidate in
    turn, so that a busy machine slows both.
    """

    atoms: Atoms
    optimized: bool = False
    """Time what ``irprune.optimize`` makes of the models: the fast path, not the graph as it is."""
    clock: Callable[[], float] = time.perf_counter
    _ready_ones: list[tuple[EquivariantGraph, Subject]] = field(default_factory=list)
    """The original and the last candidate: what is timed again is not warmed up again."""
    _machine: tuple[Peaks, int] | None = None
    """Its peaks, and the edges of the structure."""

    def __call__(
        self, original: EquivariantGraph, candidate: EquivariantGraph, rounds: int
    ) -> Sequence[tuple[float, float]]:
        """Seconds of (original, candidate) in each round."""
        self._ready_ones = [r for r in self._ready_ones if r[0] in (original, candidate)]
        subjects = [self._ready(graph) for graph in (original, candidate)]
        found = in_turn([s.call for s in subjects], rounds, self.clock)
        return [(a, b) for a, b in found]

    def _ready(self, graph: EquivariantGraph) -> Subject:
        for known, subject in self._ready_ones:
            if known is graph:
                return subject
        if self.optimized:
            from irprune.api import optimize

            subject = ready(optimize(graph, verify=False), self.atoms)
        else:
            subject = ready(graph, self.atoms)
        self._ready_ones.append((graph, subject))
        return subject

    def predicted(self, graph: EquivariantGraph, elements: BoolMask | None) -> float:
        """Seconds that the latency model says of what an element mask leaves: a ``Size``.

        Of the graph as it is, with ``optimized`` too: only ratios count, and they are close.
        """
        if self._machine is None:
            assert graph.atomistic is not None
            potential = Potential(graph.gm, graph.atomistic, graph.atomistic.any_head())
            edges = potential.collate([self.atoms]).n_edges
            self._machine = measure(potential.dtype), edges
        peaks, edges = self._machine
        return estimate(graph, len(self.atoms), edges, peaks, elements)

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
