"""Label-free structures for given elements: what distillation and verification can run on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms
from ase.build import molecule as build_molecule
from ase.build import surface
from numpy.typing import NDArray

from irprune.atomistic import Atomistic, numbers_of
from irprune.data.neighbours import edge_vectors, neighbour_list
from irprune.data.prototypes import PROTOTYPES, molecules_of, radius
from irprune.errors import DataError, UsageError

KINDS = ("crystal", "rattled", "strained", "surface", "vacancy", "molecule")
CLOSEST = 0.6
"""No two atoms are closer than this times the sum of their covalent radii."""
_TRIES = 40
_ANIONS = (1, 5, 14, 15, 6, 34, 16, 53, 35, 7, 17, 8, 9)
"""H, B, Si, P, C, Se, S, I, Br, N, Cl, O, F: roughly by electronegativity."""
_FACES = ((1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 0))
_VACUUM = 6.0
"""Å on either side of a slab."""


def generate(
    elements: Atomistic | Iterable[str | int],
    n: int,
    seed: int,
    kinds: Sequence[str] = KINDS,
    max_atoms: int = 32,
) -> list[Atoms]:
    """``n`` structures of at most ``max_atoms`` atoms, taking the ``kinds`` in turn.

    - ``crystal``: a prototype with a random volume, cell not distorted (forces nearly vanish);
    - ``rattled``: a supercell with displaced atoms and a small strain;
    - ``strained``: a strain of up to some 10 % and slight displacements;
    - ``surface``: a slab of a low-index face with vacuum, rattled;
    - ``vacancy``: a rattled supercell without one atom, or with two atoms exchanged;
    - ``molecule``: one of ASE's molecules of these elements, else a random cluster of two to four
      atoms; rattled, without a cell.

    Lattice constants come from covalent radii, elements are drawn at random. Structure i depends
    on ``seed``, i and the other arguments, not on ``n``. ``info`` has ``kind``, ``prototype`` and
    ``generated`` = i.

    Raises:
        UsageError: no elements, an unknown kind, or numbers that are too small.
        DataError: no structure could be found in which no two atoms are too close.
    """
    numbers = elements.atomic_numbers if isinstance(elements, Atomistic) else numbers_of(elements)
    unknown = [k for k in kinds if k not in KINDS]
    if unknown or not kinds:
        raise UsageError(f"kinds must be some of {', '.join(KINDS)}, got {list(kinds)}")
    if not numbers:
        raise UsageError("generate needs at least one element")
    if n < 0 or seed < 0 or max_atoms < 2:
        raise UsageError(
            "generate needs n >= 0, seed >= 0 and max_atoms >= 2,"
            f" got n={n}, seed={seed}, max_atoms={max_atoms}"
        )
    names = molecules_of(numbers, max_atoms) if "molecule" in kinds else ()
    return [_one(numbers, names, i, seed, kinds[i % len(kinds)], max_atoms) for i in range(n)]


def _one(
    numbers: Sequence[int], names: Sequence[str], i: int, seed: int, kind: str, max_atoms: int
) -> Atoms:
    rng = np.random.default_rng([seed, i])
    for attempt in range(_TRIES):
        calm = 1 - attempt / _TRIES  # smaller and smaller displacements
        if kind == "molecule":
            atoms = _molecule(numbers, names, max_atoms, rng, calm)
        else:
            atoms = _crystalline(numbers, kind, max_atoms, rng, calm)
        if 0 < len(atoms) <= max_atoms and closeness(atoms) >= CLOSEST:
            atoms.info.update(kind=kind, generated=i)
            return atoms
    raise DataError(
        f"found no {kind} structure of {len(numbers)} elements within {max_atoms} atoms after"
        f" {_TRIES} tries; allow more atoms or leave out this kind"
    )


def _crystalline(
    numbers: Sequence[int], kind: str, max_atoms: int, rng: np.random.Generator, calm: float
) -> Atoms:
    primitive = _primitive(numbers, max_atoms, rng)
    name = primitive.info["prototype"]
    if kind == "crystal":
        return primitive
    if kind == "surface":
        atoms = _slab(primitive, max_atoms, rng)
        _rattle(atoms, rng, 0.08 * calm)
    else:
        atoms = _supercell(primitive, max_atoms, rng)
        if kind == "vacancy":
            _defect(atoms, rng)
        spread, strain = {
            "rattled": (0.15, 0.01),
            "strained": (0.03, 0.06),
            "vacancy": (0.1, 0.01),
        }[kind]
        _strain(atoms, rng, strain * calm)
        _rattle(atoms, rng, spread * calm * rng.uniform(0.3, 1))
    atoms.info["prototype"] = name
    return atoms


def _primitive(numbers: Sequence[int], max_atoms: int, rng: np.random.Generator) -> Atoms:
    fitting = [p for p in PROTOTYPES if p.n_elements <= len(numbers)]
    # First how many elements, then which prototype: else the many prototypes of one size dominate.
    size = rng.choice(sorted({p.n_elements for p in fitting}))
    choice = [p for p in fitting if p.n_elements == size]
    prototype = choice[int(rng.integers(len(choice)))]
    chosen = rng.choice(np.array(numbers), size=prototype.n_elements, replace=False)
    atoms = prototype.build(sorted((int(z) for z in chosen), key=_anion_rank))
    # Like atoms may touch where the unlike ones fit: grow until none are closer than a bond.
    atoms.set_cell(np.array(atoms.cell) * max(1.0, 0.95 / closeness(atoms)), scale_atoms=True)
    atoms.set_cell(np.array(atoms.cell) * rng.uniform(0.94, 1.12), scale_atoms=True)
    if len(atoms) > max_atoms:
        return _primitive([int(rng.choice(np.array(numbers)))], max_atoms, rng)
    atoms.info["prototype"] = prototype.name
    return atoms


def _anion_rank(z: int) -> int:
    """Sorts nonmetals last, the most electronegative at the very end: the anion's site."""
    return _ANIONS.index(z) if z in _ANIONS else -1


def _supercell(atoms: Atoms, max_atoms: int, rng: np.random.Generator) -> Atoms:
    """Doubles or triples cell vectors while the result fits, the shortest first."""
    target = rng.integers(min(4, max_atoms), max_atoms + 1)
    repeat = np.ones(3, dtype=int)
    while True:
        lengths = repeat * np.array(atoms.cell.lengths()) * rng.uniform(0.9, 1.1, size=3)
        grown = repeat.copy()
        grown[int(np.argmin(lengths))] += 1
        if len(atoms) * int(np.prod(grown)) > target:
            return atoms * tuple(int(r) for r in repeat)
        repeat = grown


def _slab(atoms: Atoms, max_atoms: int, rng: np.random.Generator) -> Atoms:
    face = _FACES[int(rng.integers(len(_FACES)))]
    for layers in (int(rng.integers(2, 5)), 2, 1):
        slab = surface(atoms, face, layers, vacuum=_VACUUM, periodic=True)
        if len(slab) <= max_atoms:
            slab.pbc = (True, True, False) if rng.random() < 0.5 else True
            return slab
    return slab


def _defect(atoms: Atoms, rng: np.random.Generator) -> None:
    kinds = set(atoms.numbers.tolist())
    if len(kinds) > 1 and rng.random() < 0.3:
        first = int(rng.integers(len(atoms)))
        others = np.flatnonzero(atoms.numbers != atoms.numbers[first])
        second = int(rng.choice(others))
        atoms.numbers[[first, second]] = atoms.numbers[[second, first]]
    elif len(atoms) > 1:
        del atoms[int(rng.integers(len(atoms)))]


def _molecule(
    numbers: Sequence[int],
    names: Sequence[str],
    max_atoms: int,
    rng: np.random.Generator,
    calm: float,
) -> Atoms:
    if names and rng.random() < 0.7:
        name = str(rng.choice(np.array(names)))
        atoms = build_molecule(name)
        atoms.info = {"prototype": name}
    else:
        atoms = _cluster(numbers, int(rng.integers(2, min(4, max_atoms) + 1)), rng)
        atoms.info["prototype"] = f"cluster of {len(atoms)}"
    atoms.pbc = False
    _rattle(atoms, rng, 0.05 * calm)
    return atoms


def _cluster(numbers: Sequence[int], size: int, rng: np.random.Generator) -> Atoms:
    """Atoms added one by one at 0.8 to 1.6 bond lengths from one already there."""
    chosen = [int(z) for z in rng.choice(np.array(numbers), size=size)]
    positions = [np.zeros(3)]
    for z in chosen[1:]:
        partner = int(rng.integers(len(positions)))
        direction = rng.normal(size=3)
        bond = (radius(z) + radius(chosen[partner])) * rng.uniform(0.8, 1.6)
        positions.append(positions[partner] + direction / np.linalg.norm(direction) * bond)
    return Atoms(numbers=chosen, positions=positions)


def _rattle(atoms: Atoms, rng: np.random.Generator, amplitude: float) -> None:
    """Gaussian displacements; ``amplitude`` is their spread in mean covalent radii."""
    scale = amplitude * float(np.mean([radius(int(z)) for z in atoms.numbers]))
    atoms.positions += rng.normal(scale=max(scale, 1e-12), size=(len(atoms), 3))


def _strain(atoms: Atoms, rng: np.random.Generator, amplitude: float) -> None:
    raw = rng.normal(scale=amplitude, size=(3, 3)) if amplitude else np.zeros((3, 3))
    deform = np.eye(3) + (raw + raw.T) / 2
    atoms.set_cell(np.array(atoms.cell) @ deform, scale_atoms=True)


def closeness(atoms: Atoms) -> float:
    """Smallest distance of two atoms (images too) relative to the sum of their covalent radii.

    Infinite if no two atoms are within that sum.
    """
    radii: NDArray[np.float64] = np.array([radius(int(z)) for z in atoms.numbers])
    index, shifts = neighbour_list(atoms, 2.0 * float(radii.max()) + 1e-6)
    if index.shape[1] == 0:
        return float("inf")
    lengths = np.linalg.norm(edge_vectors(atoms, index, shifts), axis=1)
    return float((lengths / (radii[index[0]] + radii[index[1]])).min())


def repeated(atoms: Atoms, size: int) -> Atoms:
    """The structure repeated along its shortest periodic axis until it has ``size`` atoms."""
    while len(atoms) < size and atoms.pbc.any():
        lengths = np.where(atoms.pbc, atoms.cell.lengths(), np.inf)
        times = [1, 1, 1]
        times[int(np.argmin(lengths))] = 2
        atoms = atoms.repeat(times)
    return atoms
