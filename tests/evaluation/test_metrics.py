from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from irprune.errors import DataError, UsageError
from irprune.evaluation.calculator import IrpruneCalculator
from irprune.evaluation.metrics import compare_potentials, evaluate_frames
from irprune.evaluation.potential import Potential
from tests.toys import TOY, Toy


def frames() -> list[Atoms]:
    out = [bulk("Cu", cubic=True), molecule("H2O"), bulk("Si")]
    for i, atoms in enumerate(out):
        atoms.rattle(0.1, seed=i)
    return out


def labelled(d_energy: float = 0.0, d_force: float = 0.0, d_stress: float = 0.0) -> list[Atoms]:
    """Labels of the toy, off by given amounts (eV/atom, eV/Å, eV/Å³)."""
    out = []
    for atoms in frames():
        atoms.calc = IrpruneCalculator(Toy(), TOY)
        results = {
            "energy": atoms.get_potential_energy() + d_energy * len(atoms),
            "forces": atoms.get_forces() + d_force,
        }
        if atoms.pbc.any():
            results["stress"] = atoms.get_stress() + d_stress
        atoms.calc = SinglePointCalculator(atoms, **results)
        out.append(atoms)
    return out


@pytest.fixture(scope="module")
def toy() -> Potential:
    return Potential(Toy(), TOY)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_errors_are_those_put_in(toy: Potential, batch_size: int) -> None:
    calls: list[tuple[int, int]] = []
    found = evaluate_frames(
        toy, labelled(0.01, 0.2, 0.001), batch_size, lambda i, n: calls.append((i, n))
    )
    assert found.energy_mae_ev_per_atom == pytest.approx(0.01)
    assert found.energy_bias_ev_per_atom == pytest.approx(-0.01)
    assert found.energy_rmse_ev_per_atom == pytest.approx(0.01)
    assert found.force_mae_ev_per_a == pytest.approx(0.2)
    assert found.force_rmse_ev_per_a == pytest.approx(0.2)
    assert found.force_max_ev_per_a == pytest.approx(0.2)
    assert found.stress_mae_gpa == pytest.approx(0.1602177, rel=1e-5)
    assert found.stress_rmse_gpa == pytest.approx(0.1602177, rel=1e-5)
    assert (found.n_frames, found.n_atoms) == (3, 9)
    assert dict(found.missing) == {"stress": 1}
    assert calls[-1] == (3, 3)


def test_perfect_labels(toy: Potential) -> None:
    found = evaluate_frames(toy, labelled())
    assert found.force_mae_ev_per_a == pytest.approx(0, abs=1e-12)
    assert found.force_cosine == pytest.approx(1)


def test_mean_and_root_mean_square_differ(toy: Potential) -> None:
    data = labelled()
    data[0].calc.results["energy"] += 4 * 0.3
    found = evaluate_frames(toy, data)
    assert found.energy_mae_ev_per_atom == pytest.approx(0.1)
    assert found.energy_rmse_ev_per_atom == pytest.approx(0.3 / np.sqrt(3))


def test_opposite_forces_have_cosine_minus_one(toy: Potential) -> None:
    data = labelled()
    for atoms in data:
        atoms.calc.results["forces"] *= -2
    assert evaluate_frames(toy, data).force_cosine == pytest.approx(-1)


def test_missing_labels_give_none_and_are_counted(toy: Potential) -> None:
    data = labelled()
    for atoms in data:
        del atoms.calc.results["forces"]
    del data[0].calc.results["energy"]
    found = evaluate_frames(toy, data)
    assert found.force_mae_ev_per_a is None
    assert found.force_cosine is None
    assert found.energy_mae_ev_per_atom == pytest.approx(0, abs=1e-12)
    assert dict(found.missing) == {"energy": 1, "forces": 3, "stress": 1}
    assert json.loads(json.dumps(found.to_json()))["force_mae_ev_per_a"] is None
    with pytest.raises(DataError, match="give labelled data"):
        evaluate_frames(toy, frames())
    with pytest.raises(UsageError, match="batch_size"):
        evaluate_frames(toy, labelled(), batch_size=0)


def test_compare_potentials(toy: Potential) -> None:
    same = compare_potentials(toy, Potential(Toy(), TOY), frames())
    assert same.force_mae_ev_per_a == 0
    other = Potential(Toy(), TOY)
    with torch.no_grad():
        other.module.shift += 0.5
    shifted = compare_potentials(other, toy, frames())
    assert shifted.energy_bias_ev_per_atom == pytest.approx(0.5)
    assert shifted.force_mae_ev_per_a == pytest.approx(0, abs=1e-12)
    assert shifted.stress_mae_gpa == pytest.approx(0, abs=1e-12)
    assert dict(shifted.missing) == {"stress": 1}
    different = compare_potentials(Potential(Toy(seed=1), TOY), toy, frames())
    assert different.force_mae_ev_per_a > 0.01
    assert different.stress_mae_gpa > 0.01


class Torn(Toy):
    """Divides by the lengths of edges."""

    def forward(self, vectors, species, edge_index, head):  # type: ignore[no-untyped-def]
        energy = super().forward(vectors, species, edge_index, head)
        return energy.index_add(0, edge_index[0], 1e-3 / vectors.norm(dim=1))


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_prediction_that_is_not_finite_is_an_error(batch_size: int) -> None:
    given = labelled()
    given.append(Atoms("H2", positions=np.zeros((2, 3)), info={"REF_energy": 0.0}))
    torn = Potential(Torn(), TOY)
    evaluate_frames(torn, given[:3], batch_size)
    for run in (
        lambda: evaluate_frames(torn, given, batch_size),
        lambda: compare_potentials(torn, Potential(Toy(), TOY), given, batch_size),
    ):
        with pytest.raises(DataError) as caught:
            run()
        assert str(caught.value) == (
            "the energy that the model predicts for frame 3 (H2) is not finite; are atoms on top of"
            " each other? Remove the frame"
        )
