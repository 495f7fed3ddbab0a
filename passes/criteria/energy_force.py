"""energy-force: how energies and forces respond to a block. Needs no labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from irprune.errors import UsageError
from irprune.graph import EquivariantGraph
from irprune.masked import MultipliedInterpreter, ReadPlan, read_plan
from irprune.passes.criteria.base import Criterion, Measure, register
from irprune.passes.criteria.structures import Structure


@register
@dataclass(frozen=True)
class EnergyForce(Criterion):
    """Sensitivity of energy and forces to the mask variable z of each group, at z = 1.

    I = mean over structures of w_E (∂(E/N)/∂z)² + w_F ‖∂F/∂z‖² / 3N, in eV² and (eV/Å)². The force
    term is estimated without bias from random sign vectors v: E[(∂(v·F)/∂z)²] = ‖∂F/∂z‖²
    (Hutchinson, Commun. Stat. 18, 1059 (1989)). Structures with a force above ``max_force`` are left
    out: the mean of squares would be theirs alone.
    """

    probes: int = 2
    """Random directions per structure; 0 takes all 3N unit vectors, and nothing is random."""
    max_force: float = 50.0
    """eV/Å."""
    energy_weight: float = 1.0
    force_weight: float = 1.0

    name: ClassVar[str] = "energy-force"

    def __post_init__(self) -> None:
        if self.probes < 0:
            raise UsageError(
                f"score: probes must be a number of directions, or 0 for all, got {self.probes}"
            )

    def prepare(self, graph: EquivariantGraph, seed: int) -> Measure:
        return _Sensitivity(self, graph, read_plan(graph, of_value=False))


@dataclass(frozen=True, eq=False)
class _Sensitivity(Measure):
    options: EnergyForce
    graph: EquivariantGraph
    plan: ReadPlan

    def of(self, structure: Structure, generator: Generator) -> Tensor | None:
        o, n = self.options, structure.n_atoms
        z = torch.ones(self.graph.blocks.n_classes, dtype=torch.float64, device=structure.device)
        z.requires_grad_(True)
        energies = MultipliedInterpreter(self.graph, self.plan, z).run(*structure.call)
        gradient = None
        if structure.n_edges:
            (gradient,) = torch.autograd.grad(
                energies.sum(), structure.positions, create_graph=True
            )
            if float(gradient.detach().norm(dim=1).max()) > o.max_force:
                return None
        (by_energy,) = torch.autograd.grad(energies.sum() / n, z, retain_graph=True)
        out: Tensor = o.energy_weight * by_energy.square()
        if o.force_weight and gradient is not None:
            chosen = list(directions(gradient, o.probes, generator))
            out = out + o.force_weight * force_term(gradient, z, chosen) / (3 * n)
        return out


def directions(like: Tensor, probes: int, generator: Generator) -> Iterator[Tensor]:
    """Vectors v [N, 3] with mean of v vᵀ = 1: random signs, or √3N times every unit vector."""
    for _ in range(probes):
        yield torch.randint(0, 2, like.shape, generator=generator).to(like) * 2 - 1
    if not probes:
        n = like.numel()
        yield from (torch.eye(n, dtype=like.dtype) * n**0.5).to(like.device).reshape(n, *like.shape)


def force_term(gradient: Tensor, z: Tensor, chosen: list[Tensor]) -> Tensor:
    """Mean of (∂(v·F)/∂z)² over directions v: an estimate of ‖∂F/∂z‖², [n_classes]."""
    out = torch.zeros_like(z)
    for k, v in enumerate(chosen):
        last = k + 1 == len(chosen)
        (by_force,) = torch.autograd.grad((v * gradient).sum(), z, retain_graph=not last)
        out = out + by_force.square()
    return out.detach() / len(chosen)
