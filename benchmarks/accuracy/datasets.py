"""Structures to learn from, to choose by, and to test on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from benchmarks.accuracy.config import Data
from benchmarks.problems import ROOT
from irprune.atomistic import Atomistic
from irprune.data.frames import labels_of, read_frames
from irprune.evaluation.metrics import GPA_PER_EV_A3
from irprune.evaluation.potential import Potential


@dataclass(frozen=True)
class Parts:
    """Disjoint parts of a data set."""

    train: list[Atoms]
    valid: list[Atoms]
    test: list[Atoms]
    left_out: int
    """Wild structures, and such with elements that the model does not know."""
    reference: tuple[Atoms, ...] = ()
    """Of the test file, and not tested: what reference energies are taken from."""


REFERENCES = 200
"""Structures at most that reference energies of a test file are taken from."""


def data_file(name: str) -> Path:
    """Where a data set lies: under data/ of the shared folder."""
    return Path(os.environ.get("IRPRUNE_SHARED", ROOT.parent / "shared")) / "data" / name


def parts(data: Data, atomistic: Atomistic, seed: int) -> Parts:
    """The test part is the same for all seeds; what is learned from is drawn by the seed."""
    frames = read_frames(data_file(data.file))
    calm = [a for a in frames if _usable(a, data, atomistic)]
    reference: list[Atoms] = []
    fixed, drawn = np.random.default_rng(12345), np.random.default_rng(seed)
    if data.test_file:
        others = read_frames(data_file(data.test_file))
        test, reference = _cut(
            [a for a in others if _usable(a, data, atomistic)], data.test, "", fixed
        )
        rest = calm
    elif data.subset:
        test = [a for a in calm if str(a.info["subset"]).startswith("test")]
        rest = [a for a in calm if str(a.info["subset"]).startswith("train")]
        test = [test[i] for i in fixed.permutation(len(test))[: data.test]]
    else:
        test, rest = _cut(calm, data.test, data.group, fixed)
    chosen, _ = _cut(rest, data.train, data.group, drawn)
    valid, train = _cut(chosen, round(data.valid * data.train), data.group, drawn)
    return Parts(train, valid, test, len(frames) - len(calm), tuple(reference[:REFERENCES]))


def _cut(
    frames: Sequence[Atoms], n: int, group: str, rng: np.random.Generator
) -> tuple[list[Atoms], list[Atoms]]:
    """At least n structures in whole groups, and the rest."""
    keys = [str(a.info[group]) if group else str(i) for i, a in enumerate(frames)]
    names = sorted(set(keys), key=keys.index)
    members: dict[str, list[int]] = {k: [] for k in names}
    for i, k in enumerate(keys):
        members[k].append(i)
    first: list[int] = []
    for k in rng.permutation(len(names)):
        if len(first) >= n:
            break
        first += members[names[int(k)]]
    inside = set(first)
    return [frames[i] for i in first], [a for i, a in enumerate(frames) if i not in inside]


def _usable(atoms: Atoms, data: Data, atomistic: Atomistic) -> bool:
    if data.max_atoms and len(atoms) > data.max_atoms:
        return False
    if data.elements and not set(atoms.get_chemical_symbols()) <= set(data.elements):
        return False
    if not set(atoms.numbers.tolist()) <= set(atomistic.atomic_numbers):
        return False
    found = labels_of(atoms)
    if found.forces is not None and np.abs(found.forces).max(initial=0.0) > data.max_force:
        return False
    stress = 0.0 if found.stress is None else float(np.abs(found.stress).max()) * GPA_PER_EV_A3
    if data.rattle:  # its labels will be others
        return True
    return stress <= data.max_stress and found.energy is not None


STRAIN = 0.03
"""Largest component of the strain of structures that are moved."""


def told_by(model: Potential, found: Parts, rattle: float, seed: int) -> Parts:
    """Parts whose structures are moved and strained, with the labels of a model.

    The test part is moved alike for all seeds.
    """
    own, fixed = np.random.default_rng(seed), np.random.default_rng(54321)
    made = [
        [_told(model, a, rattle, rng) for a in part]
        for part, rng in ((found.train, own), (found.valid, own), (found.test, fixed))
    ]
    return Parts(*made, left_out=found.left_out)


def _told(model: Potential, atoms: Atoms, rattle: float, rng: np.random.Generator) -> Atoms:
    moved = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    strain = rng.uniform(-STRAIN, STRAIN, (3, 3))
    moved.set_cell(moved.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    moved.positions += rng.normal(0.0, rattle, moved.positions.shape)
    said = model.evaluate(model.collate([moved]), stress=True)
    assert said.forces is not None
    assert said.stress is not None
    moved.calc = SinglePointCalculator(
        moved,
        energy=float(said.energy),
        forces=said.forces.numpy(),
        stress=full_3x3_to_voigt_6_stress(said.stress[0].numpy()),
    )
    return moved


def shifts(model: Potential, frames: Sequence[Atoms]) -> dict[int, float]:
    """What labels have more than the model, eV per atom of each element: least squares."""
    elements = sorted({int(z) for a in frames for z in a.numbers})
    counts = np.array([[np.sum(a.numbers == z) for z in elements] for a in frames], float)
    apart = np.array([labels_of(a).energy - _energy(model, a) for a in frames])  # type: ignore
    found = np.linalg.lstsq(counts, apart, rcond=None)[0]
    return dict(zip(elements, found.tolist(), strict=True))


def shifted(found: Parts, model: Potential) -> tuple[Parts, dict[int, float]]:
    """Parts whose energies have the reference energies of the model, and the shifts.

    Fitted on what is learned from.
    """
    by_element = shifts(model, [*found.train, *found.valid])
    moved = [moved_by(part, by_element) for part in (found.train, found.valid, found.test)]
    return Parts(*moved, left_out=found.left_out), by_element


def moved_by(frames: Sequence[Atoms], shift: Mapping[int, float]) -> list[Atoms]:
    """Copies with plain labels and these shifts taken out of their energies."""
    return [_moved(a, shift) for a in frames]


def _energy(model: Potential, atoms: Atoms) -> float:
    return float(model.evaluate(model.collate([atoms]), forces=False).energy)


def _moved(atoms: Atoms, shift: Mapping[int, float]) -> Atoms:
    """A copy with plain labels and another energy."""
    found = labels_of(atoms)
    out = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    assert found.energy is not None
    energy = found.energy - sum(shift.get(int(z), 0.0) for z in atoms.numbers)
    results = {"energy": energy, "forces": found.forces, "stress": found.stress}
    if found.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(found.stress)
    out.calc = SinglePointCalculator(out, **{k: v for k, v in results.items() if v is not None})
    return out
