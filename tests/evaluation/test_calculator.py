from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.optimize import BFGS

from irprune.errors import DataError
from irprune.evaluation.calculator import IrpruneCalculator
from tests.adapters import mace, sevennet
from tests.toys import TOY, Toy


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def test_properties_and_shapes() -> None:
    atoms = copper()
    atoms.calc = IrpruneCalculator(Toy(), TOY)
    assert atoms.get_potential_energy() == atoms.get_potential_energy(force_consistent=True)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())
    assert atoms.get_forces().shape == (4, 3)
    assert np.abs(atoms.get_forces().sum(axis=0)).max() < 1e-12
    assert atoms.get_stress().shape == (6,)


def test_stress_has_ases_sign_and_order() -> None:
    atoms = copper()
    atoms.calc = IrpruneCalculator(Toy(), TOY)
    voigt = atoms.get_stress()
    for k, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * 5e-6
            strain[j, i] += sign * 5e-6
            moved = atoms.copy()
            moved.set_cell(np.array(atoms.cell) @ strain, scale_atoms=True)
            moved.calc = atoms.calc
            energies.append(moved.get_potential_energy())
        slope = (energies[0] - energies[1]) / 2e-5
        assert voigt[k] == pytest.approx(slope / atoms.cell.volume, rel=1e-4, abs=1e-9), k


def test_one_evaluation_gives_everything_and_moving_atoms_recomputes() -> None:
    atoms = copper()
    module = Toy()
    calls: list[int] = []
    module.register_forward_hook(lambda *_: calls.append(1))
    atoms.calc = IrpruneCalculator(module, TOY)
    first = atoms.get_potential_energy()
    forces = atoms.get_forces()
    atoms.get_stress()
    assert len(calls) == 1
    atoms.positions[0] += 0.1
    assert atoms.get_potential_energy() != first
    assert not np.allclose(atoms.get_forces(), forces)


def test_dtype_copies_the_module() -> None:
    module = Toy()
    calc = IrpruneCalculator(module, TOY, dtype=torch.float32)
    assert calc.potential.dtype == torch.float32
    assert next(module.parameters()).dtype == torch.float64
    assert IrpruneCalculator(module, TOY).potential.module is module


def test_relaxation_lowers_the_energy() -> None:
    atoms = molecule("CH3CH2OH")
    atoms.calc = IrpruneCalculator(Toy(), TOY)
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=20)
    assert atoms.get_potential_energy() < before


def test_unknown_elements_are_named() -> None:
    atoms = bulk("Ag")
    atoms.calc = IrpruneCalculator(Toy(), TOY)
    with pytest.raises(DataError, match="Ag is not known to toy"):
        atoms.get_potential_energy()


def perovskite() -> Atoms:
    sites = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    atoms = Atoms("SrTiO3", scaled_positions=sites, cell=np.eye(3) * 3.95, pbc=True)
    atoms.rattle(0.1, seed=0)
    return atoms


def same(ours: IrpruneCalculator, theirs, atoms: Atoms, rtol: float) -> None:  # type: ignore[no-untyped-def]
    a, b = atoms.copy(), atoms.copy()
    a.calc, b.calc = ours, theirs
    assert a.get_potential_energy() == pytest.approx(b.get_potential_energy(), rel=rtol)
    scale = np.abs(b.get_forces()).max()
    assert scale > 0.1
    assert np.allclose(a.get_forces(), b.get_forces(), rtol=0, atol=10 * rtol * scale)
    if atoms.pbc.all():
        scale = np.abs(b.get_stress()).max()
        assert np.allclose(a.get_stress(), b.get_stress(), rtol=0, atol=10 * rtol * scale)


def slab_stress(ours: IrpruneCalculator, theirs, crystal: Atoms) -> None:  # type: ignore[no-untyped-def]
    """MACE divides the same virial by the volume of a cell that it makes larger (docs/limits.md)."""
    from mace.data.neighborhood import get_neighborhood

    atoms = crystal.copy()
    atoms.set_cell([*crystal.cell.lengths()[:2], 15.0])
    atoms.pbc = [True, True, False]
    same(ours, theirs, atoms, 1e-9)
    *_, larger = get_neighborhood(
        atoms.positions, ours.potential.atomistic.cutoff, tuple(atoms.pbc), np.array(atoms.cell)
    )
    virials = []
    for calc, volume in ((ours, atoms.cell.volume), (theirs, abs(np.linalg.det(larger)))):
        atoms.calc = calc
        virials.append(atoms.get_stress() * volume)
        atoms.calc = None
    assert abs(np.linalg.det(larger)) > 5 * atoms.cell.volume
    assert np.allclose(*virials, rtol=0, atol=1e-8 * np.abs(virials[0]).max())


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=0)
    return atoms


@pytest.mark.real
def test_same_as_the_calculator_of_sevennet() -> None:
    from sevenn.calculator import SevenNetCalculator

    ours, theirs = IrpruneCalculator(*sevennet()), SevenNetCalculator("7net-0", device="cpu")
    with torch.jit.optimized_execution(False):  # compiling takes longer than running
        same(ours, theirs, perovskite(), 2e-6)
        same(ours, theirs, water(), 2e-6)


@pytest.mark.real
@pytest.mark.parametrize("name", ["mace_mp_0_small", "mace_GeSbTe_L1"])
def test_same_as_the_calculator_of_mace(shared: Path, name: str) -> None:
    from mace.calculators import MACECalculator

    path = shared / "checkpoints" / f"{name}.model"
    theirs = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64")
    torch.set_default_dtype(torch.float32)  # MACE's calculator changes it
    module, about = mace(path)
    ours = IrpruneCalculator(module, about, dtype=torch.float64)
    if name == "mace_GeSbTe_L1":
        atoms = bulk("GeTe", "rocksalt", a=6.0, cubic=True)
        atoms.rattle(0.1, seed=0)
        same(ours, theirs, atoms, 1e-9)
        slab_stress(ours, theirs, atoms)
    else:
        same(ours, theirs, perovskite(), 1e-9)
        same(ours, theirs, water(), 1e-9)
