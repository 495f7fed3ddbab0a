from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import primitive_neighbor_list

from irprune.data.neighbours import edge_vectors, neighbour_list
from irprune.errors import DataError, UsageError


def edges(atoms: Atoms, cutoff: float) -> Counter:
    index, shifts = neighbour_list(atoms, cutoff)
    vectors = edge_vectors(atoms, index, shifts)
    return Counter(
        (int(i), int(j), *np.round(v, 6).tolist())
        for i, j, v in zip(index[0], index[1], vectors + 0.0, strict=True)
    )


def ase_edges(atoms: Atoms, cutoff: float) -> Counter:
    i, j, d, vectors, s = primitive_neighbor_list(
        "ijdDS", atoms.pbc, atoms.cell, atoms.positions, cutoff, self_interaction=True
    )
    keep = ~((i == j) & (s == 0).all(axis=1)) & (d < cutoff)
    return Counter(
        (int(a), int(b), *np.round(v, 6).tolist())
        for a, b, v in zip(i[keep], j[keep], vectors[keep] + 0.0, strict=True)
    )


def rattled(atoms: Atoms, seed: int = 0, amplitude: float = 0.05) -> Atoms:
    atoms.positions += np.random.default_rng(seed).normal(scale=amplitude, size=(len(atoms), 3))
    return atoms


def left_handed() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.set_cell(atoms.cell[[1, 0, 2]])
    assert np.linalg.det(atoms.cell) < 0
    return atoms


def triclinic() -> Atoms:
    return Atoms("HeNe", [[0, 0, 0], [1, 1, 1]], cell=[3, 4, 5, 50, 65, 105], pbc=True)


def sheared_slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 3), a=3.6, vacuum=None, periodic=False)
    cell = np.array(atoms.cell)
    cell[2] = [3.0, 2.0, 1.0]
    atoms.set_cell(cell)
    return atoms


def wire() -> Atoms:
    return Atoms("CuAg", positions=[[0, 0, 0], [9, 4, -3]], cell=[2.5, 0, 0], pbc=[True, 0, 0])


def far_outside() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.positions += np.array([[37.0, -80.0, 11.0], [-9.0, 0.0, 55.0]])
    return atoms


def crowded() -> Atoms:
    rng = np.random.default_rng(3)
    return Atoms("H9", positions=rng.random((9, 3)) * 20 - 60)


CASES = {
    "primitive cell smaller than the cutoff": (lambda: bulk("Si"), 6.0),
    "tiny cell": (lambda: Atoms("H", cell=np.eye(3), pbc=True), 2.6),
    "cubic": (lambda: bulk("Cu", cubic=True) * (2, 1, 1), 4.5),
    "left-handed": (left_handed, 5.0),
    "triclinic": (triclinic, 5.2),
    "slab": (lambda: fcc111("Cu", (2, 2, 3), a=3.6, vacuum=8.0), 5.0),
    "slab with a useless third vector": (sheared_slab, 4.0),
    "wire with a rank-one cell": (wire, 6.0),
    "molecule without a cell": (lambda: molecule("CH3CH2OH"), 3.0),
    "molecule in a box without periodicity": (lambda: molecule("H2O", cell=[4, 4, 4]), 3.0),
    "atoms outside the cell": (far_outside, 5.0),
    "far from the origin without a cell": (crowded, 7.0),
    "single isolated atom": (lambda: Atoms("H"), 5.0),
    "no pair in range": (lambda: Atoms("H2", [[0, 0, 0], [9, 0, 0]]), 5.0),
    "planar molecule": (lambda: molecule("C6H6"), 2.0),
}


@pytest.mark.parametrize("name", CASES)
def test_same_edges_as_ase(name: str) -> None:
    build, cutoff = CASES[name]
    atoms = rattled(build())
    found = edges(atoms, cutoff)
    assert found == ase_edges(atoms, cutoff)
    assert max(found.values(), default=1) == 1
    if "single" not in name and "no pair" not in name:
        assert found


def test_shapes_types_and_both_directions() -> None:
    index, shifts = neighbour_list(Atoms("H"), 5.0)
    assert index.shape == (2, 0)
    assert shifts.shape == (0, 3)
    index, shifts = neighbour_list(rattled(bulk("NaCl", "rocksalt", a=5.6)), 5.0)
    assert index.dtype == np.int64
    assert shifts.dtype == np.float64
    forward = {(i, j, *s) for i, j, s in zip(*index, shifts, strict=True)}
    assert forward == {(j, i, *(-s)) for i, j, s in zip(*index, shifts, strict=True)}


def test_no_atoms_no_edges() -> None:
    index, _ = neighbour_list(Atoms(), 5.0)
    assert index.shape == (2, 0)


def test_pairs_at_the_cutoff_are_left_out() -> None:
    atoms = Atoms("H2", [[0, 0, 0], [2.0, 0, 0]])
    assert neighbour_list(atoms, 2.0)[0].shape[1] == 0
    assert neighbour_list(atoms, 2.0 + 1e-9)[0].shape[1] == 2


def test_atoms_are_left_unchanged() -> None:
    atoms = sheared_slab()
    before = atoms.copy()
    neighbour_list(atoms, 4.0)
    assert atoms == before


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(DataError, match="non-zero cell vector"):
        neighbour_list(Atoms("H", pbc=True), 3.0)
    with pytest.raises(DataError, match="linearly dependent"):
        neighbour_list(Atoms("H", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), 3.0)
    with pytest.raises(DataError, match="H2: positions are not finite"):
        neighbour_list(Atoms("H2", [[0, 0, 0], [np.nan, 0, 0]]), 3.0)
    with pytest.raises(UsageError, match="cutoff"):
        neighbour_list(Atoms("H"), 0.0)
