"""Checks that forces and stress are the derivatives of the energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from irprune.data.choice import number_in
from irprune.errors import DataError
from irprune.evaluation.differences import ENERGY_FLOOR, FORCE_FLOOR, forces_of, need_frames
from irprune.evaluation.potential import Potential
from irprune.verification.checks import Check, make_check, worse
from irprune.verification.tolerances import tolerance

Floats = NDArray[np.float64]
POSITION_STEP = 5e-4
"""Å that all atoms together (norm over all coordinates) move by."""
STRAIN_STEP = 2e-4
"""Norm of the strain. Smaller than the step of positions: it changes the length of an edge at the
cutoff by 1e-3 Å, and there the second derivative of some cutoff functions (XPLOR) jumps."""


def forces(
    potential: Potential, frames: Sequence[Atoms], directions: int = 2, seed: int = 0
) -> Check:
    """F · v against −dE/dv by finite differences, for random directions v of all atoms.

    Central differences with steps h and h/2, extrapolated to fourth order; in float64 whatever
    the dtype of the model. The value is relative to |F| |v| of the structure, not below
    0.1 eV/Å. A force that is wrong on any one atom shows, as v moves all of them.
    """
    need_frames(frames)
    model, rng, worst, where = potential.to(torch.float64), np.random.default_rng(seed), 0.0, ""
    for i, atoms in enumerate(frames):
        found = forces_of(model.evaluate(model.collate([atoms]))).cpu().numpy()
        for _ in range(directions):
            v = rng.normal(size=found.shape)
            v /= np.linalg.norm(v)
            expected = -_derivative(model, partial(_displaced, atoms, v), POSITION_STEP)
            scale = max(float(np.linalg.norm(found)), FORCE_FLOOR)
            error = abs(float((found * v).sum()) - expected) / scale
            worst, where = _track(worst, where, error, number_in(frames, i), atoms)
    return make_check("forces", worst, tolerance("forces", "float64"), where)


def stress(
    potential: Potential, frames: Sequence[Atoms], directions: int = 2, seed: int = 0
) -> Check:
    """σ : e against (dE/de)/V by finite differences, for random symmetric strains e.

    As ``forces``; only structures with a cell that has a volume and some periodicity take part.
    Relative to |Vσ|, not below 0.1 eV.

    Raises:
        DataError: no structure has a volume.
    """
    crystals = [(i, a) for i, a in enumerate(frames) if a.pbc.any() and a.cell.rank == 3]
    if not crystals:
        raise DataError("the stress check needs at least one periodic structure with a full cell")
    model, rng, worst, where = potential.to(torch.float64), np.random.default_rng(seed), 0.0, ""
    for i, atoms in crystals:
        out = model.evaluate(model.collate([atoms]), forces=False, stress=True)
        assert out.stress is not None
        virial = out.stress[0].cpu().numpy() * atoms.cell.volume
        for _ in range(directions):
            e = rng.normal(size=(3, 3))
            e = (e + e.T) / np.linalg.norm(e + e.T)
            expected = _derivative(model, partial(_strained, atoms, e), STRAIN_STEP)
            scale = max(float(np.linalg.norm(virial)), ENERGY_FLOOR)
            error = abs(float((virial * e).sum()) - expected) / scale
            worst, where = _track(worst, where, error, number_in(frames, i), atoms)
    return make_check("stress", worst, tolerance("stress", "float64"), where)


def _derivative(model: Potential, at: Callable[[float], Atoms], step: float) -> float:
    """dE/dh at h = 0, (4 D(step/2) − D(step)) / 3 with D the central difference (Richardson)."""
    points = [at(h) for h in (step, -step, step / 2, -step / 2)]
    e = model.evaluate(model.collate(points), forces=False).energy.tolist()
    outer, inner = (e[0] - e[1]) / (2 * step), (e[2] - e[3]) / step
    return float((4 * inner - outer) / 3)


def _displaced(atoms: Atoms, direction: Floats, h: float) -> Atoms:
    out = atoms.copy()
    out.positions += direction * h
    return out


def _strained(atoms: Atoms, strain: Floats, h: float) -> Atoms:
    out = atoms.copy()
    out.set_cell(np.array(atoms.cell) @ (np.eye(3) + h * strain))
    out.positions = atoms.positions @ (np.eye(3) + h * strain)
    return out


def _track(worst: float, where: str, value: float, number: int, atoms: Atoms) -> tuple[float, str]:
    if math.isnan(value) or value >= worst:
        return worse(worst, value), f"worst in frame {number} ({atoms.get_chemical_formula()})"
    return worst, where
