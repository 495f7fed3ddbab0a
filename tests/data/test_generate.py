from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.data import covalent_radii

from irprune.atomistic import Atomistic
from irprune.data.generate import CLOSEST, KINDS, closeness, generate
from irprune.errors import DataError, UsageError

MANY = tuple(range(1, 90))


def test_same_seed_same_structures_whatever_their_number() -> None:
    first, again = generate(MANY, 24, seed=3), generate(MANY, 48, seed=3)
    assert first == again[:24]
    assert first != generate(MANY, 24, seed=4)


@pytest.mark.parametrize(
    "elements", [MANY, ("Cu",), ("H", "O"), ("Sr", "Ti", "O"), ("H", "C", "N")]
)
def test_structures_are_within_their_limits(elements: tuple[str | int, ...]) -> None:
    frames = generate(elements, 60, seed=0, max_atoms=20)
    allowed = set(Atoms([e for e in elements if isinstance(e, str)]).numbers) or set(MANY)
    assert len(frames) == 60
    for i, atoms in enumerate(frames):
        assert 1 <= len(atoms) <= 20
        assert set(atoms.numbers.tolist()) <= allowed
        assert closeness(atoms) >= CLOSEST
        assert atoms.info["kind"] == KINDS[i % len(KINDS)]
        assert atoms.info["generated"] == i
        assert atoms.info["prototype"]
        assert np.isfinite(atoms.positions).all()
        assert atoms.pbc.any() == (atoms.info["kind"] != "molecule")
        assert len(atoms) > 1 or atoms.info["kind"] != "molecule"


def test_kinds_differ_as_they_say() -> None:
    frames = generate(("Sr", "Ti", "O"), 30, seed=1, kinds=("surface", "crystal"))
    for slab in frames[::2]:
        heights = slab.positions @ np.linalg.inv(slab.cell)[:, 2] * np.linalg.norm(slab.cell[2])
        assert np.linalg.norm(slab.cell[2]) - np.ptp(heights) > 6
    shown = {a.info["prototype"] for a in generate(MANY, 200, seed=0)}
    assert {"perovskite", "rocksalt", "fluorite", "hcp", "bcc", "wurtzite"} <= shown


def test_an_atomistic_gives_its_elements() -> None:
    about = Atomistic("mace", 5.0, (29, 8))
    assert generate(about, 6, seed=0) == generate(["Cu", "O"], 6, seed=0)


def test_closeness() -> None:
    bond = 2 * covalent_radii[29]
    assert closeness(Atoms("Cu2", [[0, 0, 0], [0.8 * bond, 0, 0]])) == pytest.approx(0.8)
    assert closeness(Atoms("Cu", cell=np.eye(3) * 0.7 * bond, pbc=True)) == pytest.approx(0.7)
    assert closeness(Atoms("Cu")) == np.inf


def test_bad_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="kinds must be some of crystal"):
        generate(["Cu"], 1, 0, kinds=("soup",))
    with pytest.raises(UsageError, match="kinds"):
        generate(["Cu"], 1, 0, kinds=())
    with pytest.raises(UsageError, match="max_atoms=1"):
        generate(["Cu"], 1, 0, max_atoms=1)
    with pytest.raises(UsageError, match="at least one element"):
        generate([], 1, 0)
    assert generate(["Cu"], 0, 0) == []


def test_small_limits_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(map(len, generate(["Cu", "O", "H"], 24, 1, max_atoms=3))) <= 3
    monkeypatch.setattr("irprune.data.generate.closeness", lambda atoms: CLOSEST - 0.01)
    with pytest.raises(DataError, match="found no crystal structure"):
        generate(["Cu"], 1, 0, kinds=("crystal",))
