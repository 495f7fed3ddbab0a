"""Checks that a potential follows rotation, inversion, translation and permutation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from irprune.evaluation.differences import (
    detail_of,
    differences,
    dtype_name,
    forces_of,
    need_frames,
)
from irprune.evaluation.potential import Potential, Prediction
from irprune.verification.checks import Check, make_check, worse
from irprune.verification.tolerances import tolerance

Floats = NDArray[np.float64]
Image = tuple[Atoms, Floats, NDArray[np.int64]]
"""The moved structure, the orthogonal map of vectors, and which old atom each new one is."""


def rotation(potential: Potential, frames: Sequence[Atoms], seed: int = 0) -> Check:
    """E(Rx) = E(x) and F(Rx) = R F(x) for a random proper rotation per structure."""
    rng = np.random.default_rng(seed)
    return _orthogonal("rotation", potential, frames, [_rotation(rng) for _ in frames])


def inversion(potential: Potential, frames: Sequence[Atoms]) -> Check:
    """E(−x) = E(x) and F(−x) = −F(x).

    Holds for models with proper parities (MACE). A SevenNet with ``is_parity: False`` gives every
    feature parity e, so that cross products of vectors count as vectors; its energies then differ
    between mirror images (SevenNet-0: 1e-5 of the energy, 1e-2 eV/Å in forces).
    """
    return _orthogonal("inversion", potential, frames, [-np.eye(3) for _ in frames])


def translation(potential: Potential, frames: Sequence[Atoms], seed: int = 0) -> Check:
    """E and F do not change if all atoms move by one vector and are wrapped into the cell."""
    rng = np.random.default_rng(seed)

    def move(atoms: Atoms) -> Image:
        out = atoms.copy()
        out.positions += rng.uniform(-5, 5, size=3)
        if out.pbc.any():
            out.wrap()
        return out, np.eye(3), np.arange(len(atoms))

    return _invariance("translation", potential, frames, move)


def permutation(potential: Potential, frames: Sequence[Atoms], seed: int = 0) -> Check:
    """E does not change, and forces go along, if the atoms are listed in another order."""
    rng = np.random.default_rng(seed)

    def move(atoms: Atoms) -> Image:
        order = rng.permutation(len(atoms))
        return atoms[order], np.eye(3), order

    return _invariance("permutation", potential, frames, move)


def _orthogonal(
    name: str, potential: Potential, frames: Sequence[Atoms], maps: Sequence[Floats]
) -> Check:
    queue = iter(maps)

    def move(atoms: Atoms) -> Image:
        matrix = next(queue)
        out = atoms.copy()
        out.set_cell(np.array(atoms.cell) @ matrix.T)
        out.positions = atoms.positions @ matrix.T
        return out, matrix, np.arange(len(atoms))

    return _invariance(name, potential, frames, move)


def _invariance(
    name: str,
    potential: Potential,
    frames: Sequence[Atoms],
    move: Callable[[Atoms], Image],
) -> Check:
    """Compares each frame with its image; forces are carried back by the map and the order."""
    need_frames(frames)
    worst_e = worst_f = 0.0
    for atoms in frames:
        batch = potential.collate([atoms])
        moved, matrix, order = move(atoms)
        reference = potential.evaluate(batch)
        image = potential.evaluate(potential.collate([moved]))
        carried = forces_of(reference)[torch.from_numpy(order).to(potential.device)] @ torch.tensor(
            matrix.T, dtype=potential.dtype, device=potential.device
        )
        expected = Prediction(reference.energy, reference.energies, carried)
        e, f = differences(expected, image, batch.batch)
        worst_e, worst_f = worse(worst_e, e), worse(worst_f, f)
    limit = tolerance(name, dtype_name(potential.dtype), potential.atomistic.dtype)
    return make_check(name, worse(worst_e, worst_f), limit, detail_of(worst_e, worst_f, frames))


def _rotation(rng: np.random.Generator) -> Floats:
    """A rotation from the uniform distribution (QR of a Gaussian matrix, sign fixed)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    rotation_matrix: Floats = q * np.linalg.det(q)
    return rotation_matrix
