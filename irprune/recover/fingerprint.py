"""Short hashes that tell whether a run is continued on the same data, from the same weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms
from torch import Tensor, nn

from irprune.data.frames import labels_of


def of_frames(frames: Sequence[Atoms]) -> str:
    """Of elements, positions, cells, periodic directions and labels, in order."""
    return _digest(_of_atoms(atoms) for atoms in frames)


def _of_atoms(atoms: Atoms) -> bytes:
    labels = labels_of(atoms)
    values = (labels.energy, labels.forces, labels.stress)
    parts = [atoms.numbers, atoms.positions, np.array(atoms.cell), atoms.pbc, *values]
    return b"|".join(b"" if p is None else np.ascontiguousarray(p).tobytes() for p in parts)


def shared(frames: Sequence[Atoms], others: Sequence[Atoms]) -> list[int]:
    """Numbers of the ``others`` that are among the frames: same elements, positions and cell."""

    def place(atoms: Atoms) -> bytes:
        parts = (atoms.numbers, atoms.positions, np.array(atoms.cell), atoms.pbc)
        return hashlib.sha256(b"|".join(np.ascontiguousarray(p).tobytes() for p in parts)).digest()

    known = {place(atoms) for atoms in frames}
    return [number for number, atoms in enumerate(others) if place(atoms) in known]


def of_weights(module: nn.Module | None) -> str:
    """Of all parameters, by name; empty for no module."""
    return "" if module is None else _digest(_bytes(k, p) for k, p in module.named_parameters())


def _bytes(name: str, value: Tensor) -> bytes:
    return name.encode() + value.detach().cpu().numpy().tobytes()


def _digest(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()[:12]
