"""What the criteria on labelled structures share: the gradient of the training loss by z."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from irprune.data.choice import number_in
from irprune.data.frames import check_frames
from irprune.errors import DataError
from irprune.evaluation.potential import Potential
from irprune.graph import EquivariantGraph
from irprune.masked import MultipliedInterpreter, ReadPlan, read_plan
from irprune.passes.criteria.base import Criterion, Measure
from irprune.passes.criteria.structures import Structure
from irprune.recover.loss import Found, compare, count, terms_of
from irprune.recover.settings import Settings
from irprune.recover.targets import Examples, Labels

if TYPE_CHECKING:
    from ase import Atoms

_NAMED = 5


@dataclass(frozen=True)
class Labelled(Criterion):
    """A criterion on L, the loss that recovery trains on (Huber, of energies and forces)."""

    energy_weight: float = 1.0
    force_weight: float = 1.0

    labels: ClassVar[bool] = True

    def prepare(self, graph: EquivariantGraph, seed: int) -> Measure:
        settings = Settings(energy_weight=self.energy_weight, force_weight=self.force_weight)
        settings.check()
        return self.measure(LossGradient(graph, settings, read_plan(graph, of_value=False)))

    def measure(self, loss: LossGradient) -> Measure:
        """What to add up of the gradients."""
        raise NotImplementedError(f"criterion {self.name} does not say what it measures")

    def check(self, frames: Sequence[Atoms]) -> None:
        labels = check_frames(frames)
        bare = [
            f"{number_in(frames, i)} ({frames[i].get_chemical_formula()})"
            for i, found in enumerate(labels)
            if not found.has("energy") and not found.has("forces")
        ]
        if bare:
            more = ", …" if len(bare) > _NAMED else ""
            raise DataError(
                f"score{{by={self.name}}} needs labels, but {len(bare)} of {len(frames)} structures"
                f" have neither energy nor forces: {', '.join(bare[:_NAMED])}{more}; label them,"
                " leave them out, or use by=energy-force, which needs no labels"
            )


@dataclass(frozen=True, eq=False)
class LossGradient:
    """∂L/∂z at z = 1 of one structure after another."""

    graph: EquivariantGraph
    settings: Settings
    """Weights of the terms."""
    plan: ReadPlan

    def of(self, structure: Structure) -> Tensor:
        """[n_classes]."""
        z = torch.ones(self.graph.blocks.n_classes, dtype=torch.float64, device=structure.device)
        loss = self.loss(structure.frame, z.requires_grad_(True))
        (gradient,) = torch.autograd.grad(loss, z)
        return gradient

    def loss(self, frame: Atoms, z: Tensor) -> Tensor:
        """L of a labelled structure at multipliers z."""
        atomistic = self.graph.atomistic
        assert atomistic is not None
        module = _Multiplied(self.graph, self.plan, z)
        potential = Potential(module, atomistic, atomistic.any_head())
        batch = potential.collate([frame])
        example = Examples(batch, Labels([frame], potential).targets(0, frame, batch))
        terms = terms_of(self.settings, {"labels": 1.0}, {})
        counts = count(terms, [example])
        forces = any(t.what == "forces" and n for t, n in zip(terms, counts, strict=True))
        found = potential.evaluate(batch, forces=forces, create_graph=True)
        return compare(terms, Found(found, batch, {}), example, counts)[0]


class _Multiplied(nn.Module):
    def __init__(self, graph: EquivariantGraph, plan: ReadPlan, z: Tensor) -> None:
        super().__init__()
        self.gm = graph.gm
        self._interpreter = MultipliedInterpreter(graph, plan, z)

    def forward(self, *inputs: Tensor) -> Any:
        return self._interpreter.run(*inputs)


@dataclass(frozen=True, eq=False)
class OfLoss(Measure):
    """A measure that looks at structures through the gradient of the loss."""

    loss: LossGradient

    def of(self, structure: Structure, generator: Generator) -> Tensor:
        return self.loss.of(structure)
