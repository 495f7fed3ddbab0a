from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from irprune.data.frames import check_frames, labels_of, read_frames
from irprune.errors import DataError
from tests.toys import TOY

VOIGT = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
FULL = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])


def labelled(energy: float = -3.5) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    forces = np.arange(12.0).reshape(4, 3)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=VOIGT)
    return atoms


@pytest.mark.parametrize("name", ["a.extxyz", "a.xyz.gz", "a.traj"])
def test_labels_survive_a_file(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [labelled(), labelled(1.0)])
    frames = read_frames(tmp_path / name)
    assert [labels_of(a).energy for a in frames] == [-3.5, 1.0]
    labels = labels_of(frames[0])
    assert np.allclose(labels.forces, np.arange(12.0).reshape(4, 3))
    assert np.allclose(labels.stress, FULL)
    assert labels.source == dict.fromkeys(("energy", "forces", "stress"), "calculator")
    assert len(read_frames(tmp_path / name, "1:")) == 1
    assert len(read_frames(tmp_path / name, 0)) == 1


def test_keys_that_name_a_reference_come_first() -> None:
    atoms = labelled()
    atoms.info["REF_energy"] = 7.0
    atoms.arrays["dft_forces"] = np.ones((4, 3))
    labels = labels_of(atoms)
    assert labels.energy == 7.0
    assert (labels.forces == 1).all()
    assert labels.source["energy"] == "info REF_energy"


def test_plain_keys_and_nothing() -> None:
    atoms = molecule("H2O")
    assert [labels_of(atoms).has(n) for n in ("energy", "forces", "stress")] == [False] * 3
    atoms.info["energy"] = np.array([2.0])
    atoms.arrays["forces"] = np.zeros((3, 3))
    labels = labels_of(atoms)
    assert labels.energy == 2.0
    assert labels.has("forces")
    assert labels.stress is None


@pytest.mark.parametrize("value", [VOIGT, FULL, FULL.ravel()])
def test_stress_shapes(value: np.ndarray) -> None:
    atoms = bulk("Cu")
    atoms.info["REF_stress"] = value
    assert np.allclose(labels_of(atoms).stress, FULL)


@pytest.mark.parametrize("key", ["virial", "virials", "REF_virials"])
def test_a_virial_changes_sign_and_is_divided_by_the_volume(key: str) -> None:
    atoms = bulk("Cu")
    atoms.info[key] = FULL
    assert np.allclose(labels_of(atoms).stress, -FULL / atoms.cell.volume)
    water = molecule("H2O")
    water.info[key] = FULL
    with pytest.raises(DataError, match="volume"):
        labels_of(water)


def test_a_reference_virial_comes_before_what_names_no_reference() -> None:
    atoms = labelled()
    atoms.info |= {"virial": FULL, "REF_virial": 2 * FULL}
    assert np.allclose(labels_of(atoms).stress, -2 * FULL / atoms.cell.volume)
    assert labels_of(atoms).source["stress"] == "info REF_virial"
    atoms.info["dft_stress"] = 3 * FULL
    assert np.allclose(labels_of(atoms).stress, 3 * FULL)
    del atoms.info["dft_stress"], atoms.info["REF_virial"]
    assert labels_of(atoms).source["stress"] == "calculator"


@pytest.mark.parametrize(
    ("store", "key"), [("arrays", "force"), ("info", "forces"), ("info", "REF_forces")]
)
def test_forces_by_other_names(store: str, key: str) -> None:
    """Databases keep arrays of their rows in info; some files have a column ``force``."""
    atoms = bulk("Cu", cubic=True)
    getattr(atoms, store)[key] = np.ones((4, 3))
    found = labels_of(atoms)
    assert np.array_equal(found.forces, np.ones((4, 3)))
    assert found.source == {"forces": f"{store} {key}"}


def test_labels_of_the_wrong_shape_are_refused() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.info["stress"] = np.ones(5)
    with pytest.raises(DataError, match=r"stress has shape \[5\]"):
        labels_of(atoms)
    atoms.info = {"energy": "low"}
    with pytest.raises(DataError, match="energy is not numeric: 'low'"):
        labels_of(atoms)
    atoms.info = {"energy": [1.0, 2.0]}
    with pytest.raises(DataError, match="one number"):
        labels_of(atoms)
    atoms.info = {}
    atoms.arrays["REF_forces"] = np.ones(4)
    with pytest.raises(DataError, match=r"forces has shape \[4\], expected \[4, 3\]"):
        labels_of(atoms)


def test_unreadable_files_give_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.xyz").touch()
    (tmp_path / "noise.xyz").write_text("this is\nno structure\n")
    (tmp_path / "noise.dat").write_bytes(b"\x00\x01\xff" * 50)
    write(tmp_path / "one.extxyz", bulk("Cu"))
    cases = {
        tmp_path / "missing.xyz": "no such data file",
        tmp_path / "empty.xyz": "is empty",
        tmp_path / "noise.xyz": "cannot read structures",
        tmp_path / "noise.dat": "cannot read structures",
        tmp_path: "is a folder",
    }
    for path, text in cases.items():
        with pytest.raises(DataError, match=text) as caught:
            read_frames(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"no structures at index '5:'"):
        read_frames(tmp_path / "one.extxyz", "5:")


def test_check_frames_gives_the_labels() -> None:
    labels = check_frames([labelled(), bulk("Cu")], TOY, ("energy", "forces", "stress"))
    assert [found.energy for found in labels] == [-3.5, None]


def nan_positions() -> Atoms:
    atoms = bulk("Cu")
    atoms.positions[0, 0] = np.nan
    return atoms


def nan_cell() -> Atoms:
    atoms = bulk("Cu")
    atoms.cell[0, 0] = np.inf
    return atoms


def nan_stress() -> Atoms:
    atoms = bulk("Cu")
    atoms.info["stress"] = VOIGT * np.nan
    return atoms


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (nan_positions, r"frame 1 \(Cu\) has a value in its positions that is not finite"),
        (nan_cell, r"frame 1 \(Cu\) has a value in its cell"),
        (nan_stress, r"frame 1 \(Cu\) has a value in its stress"),
        (lambda: labelled(np.nan), r"frame 1 \(Cu4\) has a value in its energy"),
        (lambda: bulk("Ag"), r"frame 1 \(Ag\): element Ag is not known to toy"),
        (lambda: Atoms(), "no atoms"),
        (
            lambda: Atoms("Cu", pbc=True),
            r"^frame 1 \(Cu\): periodic boundary conditions \[True, True, True\] need a finite,"
            r" non-zero cell vector in each periodic direction, got .*; set the cell or pbc=False$",
        ),
        (
            lambda: Atoms("Cu", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True),
            r"^frame 1 \(Cu\): the periodic cell vectors .* are linearly dependent;",
        ),
    ],
)
def test_bad_frames_are_named(build, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=text):
        check_frames([bulk("Cu"), build()], TOY)


def test_missing_labels_are_named() -> None:
    with pytest.raises(DataError, match="none of the 1 structures has stress"):
        check_frames([bulk("Cu")], TOY, ("stress",))
    with pytest.raises(DataError, match="no structures"):
        check_frames([], TOY)
