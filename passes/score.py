"""score: how much each block matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.errors import UsageError
from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph

_CRITERIA = ("energy-force", "magnitude", "activation", "random")


@dataclass(frozen=True)
class Score(Pass):
    """Scores every coupled group by one criterion; changes nothing else."""

    by: str = "energy-force"
    """energy-force, magnitude, activation or random."""
    probes: int = 2
    """Random force directions per structure (energy-force)."""
    structures: int = 24
    """Structures to use at most; generated where no data are given."""
    max_force: float = 50.0
    """eV/Å; structures with a larger force are left out (energy-force), and counted."""
    energy_weight: float = 1.0
    force_weight: float = 1.0

    name: ClassVar[str] = "score"
    summary: ClassVar[str] = "importance of every block, by the criterion in `by`"
    trait: ClassVar[str] = "exact"
    refuses: ClassVar[tuple[str, ...]] = ("lowered",)
    provides: ClassVar[tuple[str, ...]] = ("scores",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with ``scores``.

        Raises:
            UsageError: unknown criterion, or a data-driven one on a graph without atoms.
        """
        from irprune.passes import criteria
        from irprune.scores import Scores

        if self.by == "random":
            return graph.replace(scores=Scores(criteria.random(graph, context.seed), self.by))
        if self.by == "magnitude":
            return graph.replace(scores=Scores(criteria.magnitude(graph), self.by))
        if self.by not in _CRITERIA:
            raise UsageError(f"score: unknown criterion {self.by!r}; known: {', '.join(_CRITERIA)}")
        if graph.atomistic is None:
            raise UsageError(
                f"score{{by={self.by}}} runs the model on atoms, but this graph has no elements or"
                " cutoff; use by=magnitude or by=random"
            )
        frames = list(context.frames or ())[: self.structures]
        if not frames:
            from irprune.data.generate import generate

            frames = generate(graph.atomistic, self.structures, context.seed, max_atoms=16)

        def progress(done: int, total: int) -> None:
            context.progress(f"score ({self.by})", done, total)

        if self.by == "activation":
            values, detail = criteria.activation(graph, frames, progress)
        else:
            values, detail = criteria.energy_force(
                graph,
                frames,
                energy_weight=self.energy_weight,
                force_weight=self.force_weight,
                probes=self.probes,
                max_force=self.max_force,
                seed=context.seed,
                progress=progress,
            )
        context.results["score"] = detail
        return graph.replace(scores=Scores(values, self.by, detail))
