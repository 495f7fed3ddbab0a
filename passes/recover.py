"""recover: training after a lossy pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.errors import UsageError
from irprune.passmanager import Pass, PassContext
from irprune.recover.settings import Settings

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Recover(Settings, Pass):
    """Trains the weights of the graph to what its teacher or the labels of the data say.

    The teacher is the model before any pass. Both run on compiled kernels meanwhile: the same
    function of the same weights, several times faster. The graph that comes out has the ops that it
    had.
    """

    structures: int = 128
    """Structures to generate where no data are given; of given data all are used."""

    name: ClassVar[str] = "recover"
    summary: ClassVar[str] = "train the pruned weights to the original's energies and forces"
    trait: ClassVar[str] = "approximate(weights are trained)"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with trained weights; the curve is in ``context.results["recover"]``.

        Raises:
            UsageError: the graph does not run on atoms, or nothing came before it to learn from.
        """
        from irprune.recover.graphs import recover_graph

        teacher = None if self.learn == "labels" else context.teacher or graph.origin
        if graph.atomistic is None or (teacher is None and self.learn != "labels"):
            raise UsageError(
                "recover distils from the model before pruning: it needs an interatomic potential"
                " and a slice before it"
            )
        frames = context.frames
        if not frames:
            from irprune.data.generate import generate

            frames = generate(graph.atomistic, self.structures, context.seed + 1, max_atoms=16)
        trained, result = recover_graph(
            graph, teacher, frames, self, seed=context.seed, progress=context.progress
        )
        context.results["recover"] = result
        return trained
