"""Crystals with real shapes, and which model runs on which of them. Needs neither torch nor us."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

ROOT = Path(__file__).resolve().parent.parent
RATTLE = 0.05
"""Å, standard deviation of each coordinate: forces are not zero and no two distances are equal."""
PER_CELL = 8
"""Atoms in each conventional cell below."""
SIZES = tuple(PER_CELL * n**3 for n in (1, 2, 3, 4, 5, 10))
"""Atoms that a problem can have: 8 (smoke tests), 64, 216, 512, 1000, 8000."""


@dataclass(frozen=True)
class Crystal:
    """One conventional cell of 8 atoms."""

    name: str
    structure: str
    a: float
    """Lattice constant, Å."""

    def supercell(self, atoms: int, seed: int = 0) -> Atoms:
        """A cubic supercell, rattled.

        Raises:
            ValueError: a number of atoms that is not 8 n³.
        """
        if atoms not in SIZES:
            raise ValueError(f"atoms must be one of {', '.join(map(str, SIZES))}, got {atoms}")
        n = round((atoms / PER_CELL) ** (1 / 3))
        made = bulk(self.name, self.structure, a=self.a, cubic=True).repeat(n)
        rng = np.random.default_rng(seed)
        made.positions += rng.normal(0.0, RATTLE, made.positions.shape)
        return made


CRYSTALS = {
    c.name: c
    for c in (
        Crystal("MgO", "rocksalt", 4.21),
        Crystal("Si", "diamond", 5.43),
        Crystal("GeTe", "rocksalt", 6.01),
    )
}


@dataclass(frozen=True)
class Model:
    """A checkpoint to prune, and the crystal that it is timed on."""

    name: str
    family: str
    crystal: str
    suffix: str
    """Of the family's model files."""
    file: str = ""
    """Under checkpoints/ of the shared folder; empty for names that the family resolves."""

    def location(self) -> str:
        """What to load: a name, or the path of the file.

        Raises:
            FileNotFoundError: the file is not there; says what to set.
        """
        if not self.file:
            return self.name
        shared = Path(os.environ.get("IRPRUNE_SHARED", ROOT.parent / "shared"))
        path = shared / "checkpoints" / self.file
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; set IRPRUNE_SHARED to the shared folder")
        return str(path)


MODELS = {
    m.name: m
    for m in (
        Model("7net-0", "sevennet", "MgO", ".pth"),
        Model("7net-l3i5", "sevennet", "Si", ".pth"),
        Model("mace-mp-0-small", "mace", "GeTe", ".model", "mace_mp_0_small.model"),
    )
}
