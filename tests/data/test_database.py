"""Databases are read structure by structure; labels may have keys of the user's own."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from irprune.cli.common import existing_file
from irprune.data.choice import View, evenly, number_in
from irprune.data.database import Rows
from irprune.data.frames import check_frames, labels_of, read_frames
from irprune.data.generate import generate
from irprune.data.views import Keyed, parse_keys
from irprune.errors import DataError, UsageError
from irprune.recover.holdout import held_out
from irprune.recover.settings import Settings
from irprune.recover.trainer import train
from tests.toys import TOY, Toy

NAMES = ("a.db", "a.aselmdb")


def fill(path: Path, energies, frames=None) -> Path:
    with connect(str(path)) as database:
        for i, energy in enumerate(energies):
            atoms = (bulk("Cu") * (1, 1, i + 1)) if frames is None else frames[i].copy()
            forces = np.full((len(atoms), 3), 0.1 * i)
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            database.write(atoms, run=f"r{i // 2}", data={"source": i})
    return path


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_structures_with_labels(tmp_path: Path, name: str) -> None:
    frames = read_frames(fill(tmp_path / name, [0.0, -1.0, -2.0, -3.0]))
    assert isinstance(frames, Rows)
    assert [len(a) for a in frames] == [1, 2, 3, 4]
    assert [labels_of(a).energy for a in frames] == [0.0, -1.0, -2.0, -3.0]
    assert labels_of(frames[-1]).forces == pytest.approx(np.full((4, 3), 0.3))
    assert frames[3].info["run"] == "r1"
    assert frames[3].info["source"] == 3
    assert [len(a) for a in read_frames(tmp_path / name, "1::2")] == [2, 4]
    assert [len(a) for a in read_frames(tmp_path / name, 2)] == [3]
    with pytest.raises(DataError, match="has no structures at index 7"):
        read_frames(tmp_path / name, 7)
    again = pickle.loads(pickle.dumps(frames))
    assert [len(a) for a in again] == [1, 2, 3, 4]


def test_a_folder_of_databases_is_one(tmp_path: Path) -> None:
    fill(tmp_path / "b.aselmdb", [5.0])
    fill(tmp_path / "a.aselmdb", [1.0, 2.0])
    assert [labels_of(a).energy for a in read_frames(tmp_path)] == [1.0, 2.0, 5.0]


def test_a_broken_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match=r"a\.db"):
        read_frames(path)


def test_training_on_a_database_equals_training_on_its_structures(tmp_path: Path) -> None:
    frames = generate(["H", "O", "Cu"], 8, seed=0, max_atoms=6)
    fill(tmp_path / "a.aselmdb", np.arange(8.0), frames)
    rows = read_frames(tmp_path / "a.aselmdb")
    found = []
    for data, workers in ((rows, 0), (rows, 2), (list(rows), 0)):
        student = Toy().to(torch.float32)
        settings = Settings(steps=4, batch=4, workers=workers, max_force=1e9)
        train(student, None, TOY, data, settings)
        found.append(torch.cat([p.detach().reshape(-1) for p in student.parameters()]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_views_read_nothing_until_asked(tmp_path: Path, monkeypatch) -> None:
    rows = read_frames(fill(tmp_path / "a.db", np.arange(6.0)))
    read = []
    get = Rows.__getitem__
    monkeypatch.setattr(Rows, "__getitem__", lambda self, i: read.append(i) or get(self, i))
    learn, held = held_out(rows, Settings(valid=0.5), seed=0)
    assert read == []
    assert isinstance(learn, View)
    assert sorted(labels_of(a).energy for a in (*learn, *held)) == list(range(6))
    assert len(learn[1:]) == 2


@pytest.mark.parametrize(
    ("have", "n", "numbers"),
    [
        (7, 1, [0]),
        (7, 2, [0, 6]),
        (7, 3, [0, 3, 6]),
        (7, 7, range(7)),
        (7, 9, range(7)),
        (1, 3, [0]),
        (1402, 3, [0, 701, 1401]),
        (48, 24, [i * 47 / 23 for i in range(24)]),
    ],
)
def test_structures_are_evenly_spaced(have: int, n: int, numbers: list[float]) -> None:
    chosen = evenly([Atoms("H")] * have, n)
    assert chosen.numbers == pytest.approx(list(numbers), abs=0.5)
    assert [number_in(chosen, i) for i in range(len(chosen))] == chosen.numbers
    assert [number_in(chosen[1:], i) for i in range(len(chosen) - 1)] == chosen.numbers[1:]


def test_keys_of_the_users_own(tmp_path: Path) -> None:
    atoms = bulk("Cu")
    atoms.info.update(energy=1.0, dft=2.0)
    atoms.arrays["F"] = np.ones((1, 3))
    write(tmp_path / "a.extxyz", atoms)
    frames = read_frames(tmp_path / "a.extxyz")
    assert labels_of(frames[0]).energy == 1.0
    own = Keyed(frames, parse_keys("energy=dft, forces=F"))
    (found,) = check_frames(own)
    assert found.energy == 2.0
    assert (found.forces == 1).all()
    with pytest.raises(DataError, match=r"has no 'E' in its info, where its energy was to be"):
        check_frames(Keyed(frames, {"energy": "E"}))
    for text in ("energy", "colour=x", "energy="):
        with pytest.raises(UsageError, match=r"keys are LABEL=KEY"):
            parse_keys(text)


def test_a_key_for_the_virial_is_the_stress() -> None:
    """Whatever else the file says of it; and no frame that was read is changed."""
    atoms = bulk("Cu")
    virial = np.diag([1.0, 2.0, 3.0])
    atoms.info |= {"mine": virial, "virial": 5 * virial, "REF_stress": virial, "dft_virial": virial}
    atoms.calc = SinglePointCalculator(atoms, stress=np.ones(6), free_energy=-7.0)
    (found,) = check_frames(Keyed([atoms], parse_keys("virial=mine,energy=free_energy")))
    assert np.allclose(found.stress, -virial / atoms.cell.volume)
    assert found.energy == -7.0
    assert set(atoms.info) == {"mine", "virial", "REF_stress", "dft_virial"}
    with pytest.raises(UsageError, match="stress and virial, which are one label; name one"):
        parse_keys("stress=a,virial=b")


def test_the_command_line_takes_a_folder_of_databases(tmp_path: Path) -> None:
    """But no other folder."""
    fill(tmp_path / "a.db", [0.0])
    assert existing_file(str(tmp_path), "the data file") == tmp_path
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"the data file .*empty is a folder; name a file"):
        existing_file(str(tmp_path / "empty"), "the data file")
