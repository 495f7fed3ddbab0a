"""recover: brief distillation from the model before pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.errors import UsageError
from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Recover(Pass):
    """Trains the weights of the graph to the teacher's energies and forces.

    Both run on compiled kernels meanwhile: the same function of the same weights, several times
    faster. The graph that comes out has the ops that it had.
    """

    steps: int = 200
    batch: int = 8
    lr: float = 2e-3
    structures: int = 128
    """Structures to train on; generated where no data are given."""
    energy_weight: float = 1.0
    force_weight: float = 1.0
    stress_weight: float = 0.0
    deadline: float | None = None
    """Seconds after which training stops; the learning rate then follows the clock."""

    name: ClassVar[str] = "recover"
    summary: ClassVar[str] = "train the pruned weights to the original's energies and forces"
    trait: ClassVar[str] = "approximate(weights are trained)"

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with trained weights; the curve is in ``context.results["recover"]``.

        Raises:
            UsageError: the graph does not run on atoms, or nothing came before it to learn from.
        """
        import copy

        from irprune.recover.distill import distill
        from irprune.recover.kernels import on_kernels, take_back

        teacher = context.teacher or graph.origin
        if graph.atomistic is None or teacher is None:
            raise UsageError(
                "recover distils from the model before pruning: it needs an interatomic potential"
                " and a slice before it"
            )
        frames = list(context.frames or ())[: self.structures]
        if not frames:
            from irprune.data.generate import generate

            frames = generate(graph.atomistic, self.structures, context.seed + 1, max_atoms=16)
        trained = graph.replace(gm=copy.deepcopy(graph.gm))
        for parameter in trained.gm.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        fast = on_kernels(trained)
        result = distill(
            fast.gm,
            on_kernels(teacher.replace(keep=None, scores=None)).gm,
            graph.atomistic,
            frames,
            steps=self.steps,
            batch_size=self.batch,
            lr=self.lr,
            seed=context.seed,
            energy_weight=self.energy_weight,
            force_weight=self.force_weight,
            stress_weight=self.stress_weight,
            deadline_s=self.deadline,
            progress=lambda done, total: context.progress("recover", done, total),
        )
        take_back(trained, fast)
        for parameter in trained.gm.parameters():
            parameter.requires_grad_(False)
        context.results["recover"] = result
        return trained
