from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from torch import Tensor, nn

from irprune.errors import UsageError
from irprune.evaluation.potential import Potential
from tests.toys import TOY, Toy


def frames() -> list[Atoms]:
    out = [bulk("Cu", cubic=True), molecule("H2O"), Atoms("O"), bulk("Si"), fcc111("Cu", (1, 1, 2))]
    for i, atoms in enumerate(out):
        atoms.rattle(0.1, seed=i)
    return out


@pytest.fixture(scope="module")
def toy() -> Potential:
    return Potential(Toy(), TOY)


def test_a_batch_gives_what_its_structures_give(toy: Potential) -> None:
    whole = toy.evaluate(toy.collate(frames()), stress=True)
    singles = [toy.evaluate(toy.collate([a]), stress=True) for a in frames()]
    assert whole.forces is not None
    assert whole.stress is not None
    for name in ("energy", "energies", "forces", "stress"):
        joined = torch.cat([getattr(s, name) for s in singles])
        assert torch.allclose(getattr(whole, name), joined, atol=1e-12), name
    assert torch.allclose(whole.energy[0], whole.energies[:4].sum())


def test_forces_and_stress_are_those_of_autograd_through_positions_and_strain(
    toy: Potential,
) -> None:
    batch = toy.collate([frames()[0], frames()[3]])
    found = toy.evaluate(batch, stress=True)
    positions = batch.positions.clone().requires_grad_(True)
    strain = torch.zeros_like(batch.cell).requires_grad_(True)
    deform = torch.eye(3) + 0.5 * (strain + strain.transpose(1, 2))
    i, j = batch.edge_index
    cell = batch.cell @ deform
    moved = torch.einsum("ni,nij->nj", positions, deform[batch.batch])
    vectors = moved[j] - moved[i] + torch.einsum("ei,eij->ej", batch.shifts, cell[batch.batch[i]])
    energy = toy.module(vectors, batch.species, batch.edge_index, batch.head).sum()
    d_positions, d_strain = torch.autograd.grad(energy, [positions, strain])
    assert torch.allclose(found.forces, -d_positions, atol=1e-12)
    assert torch.allclose(found.stress, d_strain / batch.volume[:, None, None], atol=1e-12)
    assert found.forces.abs().max() > 1e-2
    assert found.stress.abs().max() > 1e-4


def test_isolated_atoms_and_no_cell(toy: Potential) -> None:
    out = toy.evaluate(toy.collate([Atoms("O")]), stress=True)
    assert out.forces.tolist() == [[0, 0, 0]]
    assert out.stress.abs().max() == 0
    assert out.energy.item() == pytest.approx(toy.module.shift[2].item())
    water = toy.evaluate(toy.collate([frames()[1]]), stress=True)
    assert water.forces.abs().max() > 1e-3
    assert water.stress.abs().max() == 0


def test_without_derivatives_nothing_is_tracked(toy: Potential) -> None:
    out = toy.evaluate(toy.collate(frames()), forces=False)
    assert out.forces is None
    assert out.stress is None
    assert not out.energy.requires_grad


def test_works_under_no_grad_and_leaves_the_parameters_alone(toy: Potential) -> None:
    with torch.no_grad():
        out = toy.evaluate(toy.collate(frames()))
    assert out.forces.abs().max() > 1e-3
    assert all(p.grad is None for p in toy.module.parameters())


def test_create_graph_gives_second_derivatives(toy: Potential) -> None:
    out = toy.evaluate(toy.collate(frames()), stress=True, create_graph=True)
    loss = out.forces.square().sum() + out.stress.square().sum()
    grads = torch.autograd.grad(loss, list(toy.module.parameters()), allow_unused=True)
    pair = grads[0]
    step = 1e-6
    shifted = Potential(Toy(), TOY)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            shifted.module.pair.copy_(toy.module.pair)
            shifted.module.pair[4, 4, 0] += sign * step
        again = shifted.evaluate(shifted.collate(frames()), stress=True)
        values.append((again.forces.square().sum() + again.stress.square().sum()).item())
    assert pair[4, 4, 0].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_to_is_a_deep_copy(toy: Potential) -> None:
    small = toy.to(torch.float32)
    assert small.dtype == torch.float32
    assert toy.dtype == torch.float64
    a = toy.evaluate(toy.collate(frames()))
    b = small.evaluate(small.collate(frames()))
    assert b.forces.dtype == torch.float32
    assert np.allclose(a.forces, b.forces, atol=1e-4)


class Detached(nn.Module):
    def forward(self, vectors: Tensor, species: Tensor, index: Tensor, head: Tensor) -> Tensor:
        return torch.zeros(species.shape[0], dtype=vectors.dtype)


class Total(Detached):
    def forward(self, vectors: Tensor, species: Tensor, index: Tensor, head: Tensor) -> Tensor:
        return vectors.sum()


def test_modules_that_break_the_contract_are_named() -> None:
    detached = Potential(Detached(), TOY)
    with pytest.raises(UsageError, match="carry no gradient"):
        detached.evaluate(detached.collate(frames()))
    total = Potential(Total(), TOY)
    with pytest.raises(UsageError, match=r"shape \(\), expected one per atom, \(12,\)"):
        total.evaluate(total.collate(frames()))
    with pytest.raises(UsageError, match="no head"):
        Potential(Toy(), TOY, head="x")
