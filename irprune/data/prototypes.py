"""Crystal prototypes scaled by covalent radii, and molecules, for label-free structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.build.molecule import extra as _EXTRA
from ase.collections import g2
from ase.data import chemical_symbols, covalent_radii

_MISSING_RADIUS = 1.5
"""Å, for elements whose radius ASE marks as missing (0.2): that of the late actinides."""


def radius(z: int) -> float:
    """Covalent radius in Å (Cordero et al., Dalton Trans. 2008, 2832, as tabulated by ASE)."""
    value = float(covalent_radii[z])
    return value if value > 0.21 else _MISSING_RADIUS


@dataclass(frozen=True)
class Prototype:
    """A structure type for ``n_elements`` elements, built for a nearest-neighbour distance."""

    name: str
    n_elements: int
    build: Callable[[Sequence[int]], Atoms]
    """From atomic numbers to the primitive cell."""


def _elemental(structure: str, per_bond: float) -> Callable[[Sequence[int]], Atoms]:
    def build(numbers: Sequence[int]) -> Atoms:
        (z,) = numbers
        a = per_bond * 2 * radius(z)
        extra = {"c": a * np.sqrt(8 / 3)} if structure == "hcp" else {}
        return bulk(chemical_symbols[z], structure, a=a, **extra)

    return build


def _binary(structure: str, per_bond: float) -> Callable[[Sequence[int]], Atoms]:
    def build(numbers: Sequence[int]) -> Atoms:
        a = per_bond * (radius(numbers[0]) + radius(numbers[1]))
        extra = {"c": a * np.sqrt(8 / 3)} if structure == "wurtzite" else {}
        formula = "".join(chemical_symbols[z] for z in numbers)
        if structure == "fluorite":
            formula += chemical_symbols[numbers[1]]
        return bulk(formula, structure, a=a, **extra)

    return build


def _perovskite(numbers: Sequence[int]) -> Atoms:
    a_site, b_site, anion = numbers
    length = max(
        2 * (radius(b_site) + radius(anion)), np.sqrt(2) * (radius(a_site) + radius(anion))
    )
    sites = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms(
        numbers=[a_site, b_site, anion, anion, anion],
        scaled_positions=sites,
        cell=np.eye(3) * length,
        pbc=True,
    )


def _half_heusler(numbers: Sequence[int]) -> Atoms:
    """A and B on a rocksalt lattice, C on half of the tetrahedral sites."""
    a, b, c = (radius(z) for z in numbers)
    length = max(2 * (a + b), 4 / np.sqrt(3) * (max(a, b) + c))
    cell = length / 2 * (np.ones((3, 3)) - np.eye(3))
    sites = [[0, 0, 0], [0.5] * 3, [0.25] * 3]
    return Atoms(numbers=list(numbers), scaled_positions=sites, cell=cell, pbc=True)


# The second number is the lattice constant per nearest-neighbour distance.
PROTOTYPES: tuple[Prototype, ...] = (
    Prototype("fcc", 1, _elemental("fcc", np.sqrt(2))),
    Prototype("bcc", 1, _elemental("bcc", 2 / np.sqrt(3))),
    Prototype("hcp", 1, _elemental("hcp", 1.0)),
    Prototype("sc", 1, _elemental("sc", 1.0)),
    Prototype("diamond", 1, _elemental("diamond", 4 / np.sqrt(3))),
    Prototype("rocksalt", 2, _binary("rocksalt", 2.0)),
    Prototype("zincblende", 2, _binary("zincblende", 4 / np.sqrt(3))),
    Prototype("wurtzite", 2, _binary("wurtzite", np.sqrt(8 / 3))),
    Prototype("cesiumchloride", 2, _binary("cesiumchloride", 2 / np.sqrt(3))),
    Prototype("fluorite", 2, _binary("fluorite", 4 / np.sqrt(3))),
    Prototype("perovskite", 3, _perovskite),
    Prototype("half-heusler", 3, _half_heusler),
)


def molecules_of(numbers: Sequence[int], max_atoms: int) -> tuple[str, ...]:
    """Names of ASE's molecules that consist of these elements only, at most ``max_atoms`` each."""
    allowed = set(numbers)
    names = [*g2.names, *_EXTRA]
    return tuple(name for name in names if _fits(molecule(name), allowed, max_atoms))


def _fits(atoms: Atoms, allowed: set[int], max_atoms: int) -> bool:
    return 1 < len(atoms) <= max_atoms and set(atoms.numbers.tolist()) <= allowed
