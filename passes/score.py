"""score: how much each block matters."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.errors import DataError, UsageError
from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from irprune.graph import EquivariantGraph
    from irprune.passes.criteria import Criterion
    from irprune.passes.criteria.checkpoint import Checkpoint
    from irprune.passes.criteria.loop import Finished, Sums


@dataclass(frozen=True)
class Score(Pass):
    """Scores every coupled group by one criterion; changes nothing else."""

    by: str = "energy-force"
    """The criterion: see ``irprune.passes.criteria``."""
    probes: int = 2
    """Random force directions per structure (energy-force); 0 takes all 3N, exactly."""
    structures: int = 24
    """Structures to use at most, evenly spaced; generated where no data are given."""
    max_force: float = 50.0
    """eV/Å; structures with a larger force are left out (energy-force), and counted."""
    energy_weight: float = 1.0
    """Weight of the energy in the criterion; for taylor and fisher in the loss."""
    force_weight: float = 1.0
    """Weight of the forces, likewise; 0 skips them."""
    device: str | None = None
    """Where the model runs: cpu, cuda, cuda:1; None: where the pipeline does."""
    checkpoint: str | None = None
    """A file to keep the sums in while they grow; a run that finds it goes on from there."""

    name: ClassVar[str] = "score"
    summary: ClassVar[str] = "importance of every block, by the criterion in `by`"
    trait: ClassVar[str] = "exact"
    refuses: ClassVar[tuple[str, ...]] = ("lowered",)
    provides: ClassVar[tuple[str, ...]] = ("scores",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with ``scores``; their detail also in the results, under ``score``.

        Raises:
            UsageError: unknown criterion, unusable device or checkpoint, a data-driven criterion on
                a graph without atoms, or one that needs labels without data.
            DataError: structures without labels that need some, or none that can be used.
        """
        from irprune import importance
        from irprune.passes.criteria import criterion_named
        from irprune.scores import Scores

        kind = criterion_named(self.by)
        criterion = kind(**{f.name: getattr(self, f.name) for f in fields(kind)})
        options = {"criterion": self.by, **asdict(criterion)}
        if kind.structures:
            frames = self._frames(graph, context, criterion)
            finished, sums = self._look_at(graph, context, criterion, frames)
            counts = {
                "structures": sums.used,
                "left_out": len(frames) - sums.used,
                "given": len(context.frames) if context.frames else None,
            }
        else:
            finished, counts = self._look(graph, context, criterion), {}
        detail = {
            **options,
            **counts,
            "seed": context.seed,
            "stability": importance.stability(graph, finished.halves),
            "layers": importance.by_layer(graph, finished.values),
            "elements": {e: importance.total(graph, v) for e, v in finished.elements.items()}
            or None,
        }
        context.results["score"] = detail
        return graph.replace(scores=Scores(finished.values, self.by, detail))

    def _frames(
        self, graph: EquivariantGraph, context: PassContext, criterion: Criterion
    ) -> Sequence[Atoms]:
        """The structures to look at, checked."""
        if graph.atomistic is None:
            raise UsageError(
                f"score{{by={self.by}}} runs the model on atoms, but this graph has no elements or"
                " cutoff; use by=magnitude, by=redundancy or by=random"
            )
        if self.structures < 1:
            raise UsageError(f"score: structures must be 1 or more, got {self.structures}")
        if not context.frames and criterion.labels:
            raise UsageError(
                f"score{{by={self.by}}} needs labelled structures, and none were given: give them"
                " with --data, or use by=energy-force, which needs no labels"
            )
        if not context.frames:
            from irprune.data.generate import generate

            return generate(graph.atomistic, self.structures, context.seed, max_atoms=16)
        from irprune.data.choice import evenly

        frames = evenly(context.frames, self.structures)
        criterion.check(frames)
        return frames

    def _look_at(
        self,
        graph: EquivariantGraph,
        context: PassContext,
        criterion: Criterion,
        frames: Sequence[Atoms],
    ) -> tuple[Finished, Sums]:
        from irprune.devices import usable_device
        from irprune.passes.criteria.loop import accumulate, finish
        from irprune.passes.criteria.placement import placed

        name = self.device or context.device
        device = usable_device(name, f"score: device {name!r}")
        checkpoint = self._checkpoint(graph, context, frames, str(device))
        there = placed(graph, device)
        measure = criterion.prepare(there, context.seed)
        sums = accumulate(
            measure,
            there,
            frames,
            seed=context.seed,
            checkpoint=checkpoint,
            progress=lambda done, n: context.progress(f"score ({self.by})", done, n),
        )
        if not sums.used:
            raise DataError(
                f"score: all {len(frames)} structures have a force above {self.max_force:g} eV/Å;"
                " give calmer ones, or raise max-force"
            )
        return finish(measure, sums, frames), sums

    def _look(
        self, graph: EquivariantGraph, context: PassContext, criterion: Criterion
    ) -> Finished:
        """Scores by a criterion that looks at no structures."""
        import numpy as np

        from irprune.passes.criteria.loop import Finished

        measure = criterion.prepare(graph, context.seed)
        return Finished(measure.finish(np.zeros(graph.blocks.n_classes)), None, {})

    def _checkpoint(
        self, graph: EquivariantGraph, context: PassContext, frames: Sequence[Atoms], device: str
    ) -> Checkpoint | None:
        if self.checkpoint is None:
            return None
        from irprune.files import check_writable
        from irprune.passes.criteria import checkpoint

        settings: dict[str, Any] = {
            "score": replace(self, checkpoint=None, device=None).text(),
            "seed": context.seed,
            "device": device,
            "model": checkpoint.digest_of_model(graph),
            "structures": checkpoint.digest_of_structures(frames),
        }
        return checkpoint.Checkpoint(check_writable(Path(self.checkpoint)), settings)
