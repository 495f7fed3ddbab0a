"""How far two predictions for the same structures are apart, in relative terms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from ase import Atoms
from torch import Tensor

from irprune.errors import UsageError
from irprune.evaluation.potential import Prediction

ENERGY_FLOOR = 0.1
"""eV. Energies below it are compared absolutely, as differences relative to this."""
FORCE_FLOOR = 0.1
"""eV/Å. Likewise for frames whose forces nearly vanish: they are sums of terms of this order."""


def differences(
    reference: Prediction, other: Prediction, batch_index: Tensor
) -> tuple[float, float]:
    """Largest relative differences of energies and forces over the structures of a batch.

    Energy: |ΔE| / max(|E|, 0.1 eV) of each structure. Force: max |ΔF| / max(max |F|, 0.1 eV/Å),
    both maxima over the components of one structure. |E| and |F| are those of ``reference``.
    NaN or infinity anywhere gives ``nan``.
    """
    batch_index = batch_index.cpu()
    energy, other_energy = reference.energy.cpu().double(), other.energy.cpu().double()
    d_energy = (energy - other_energy).abs() / energy.abs().clamp(min=ENERGY_FLOOR)
    forces, other_forces = forces_of(reference).cpu().double(), forces_of(other).cpu().double()
    size = torch.zeros_like(energy)
    error = torch.zeros_like(energy)
    size.scatter_reduce_(0, batch_index, forces.abs().amax(1), "amax")
    error.scatter_reduce_(0, batch_index, (forces - other_forces).abs().amax(1), "amax")
    d_forces = error / size.clamp(min=FORCE_FLOOR)
    if not all(bool(torch.isfinite(x).all()) for x in (other_energy, other_forces, energy, forces)):
        return math.nan, math.nan
    return float(d_energy.max()), float(d_forces.max())


def forces_of(prediction: Prediction) -> Tensor:
    """The forces, which must have been asked for."""
    assert prediction.forces is not None
    return prediction.forces


def detail_of(energy: float, force: float, frames: Sequence[Atoms]) -> str:
    """Which of the two differences is the large one, in words."""
    return f"energy {energy:.2g}, forces {force:.2g} over {len(frames)} structures"


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float64`` → ``float64``."""
    return str(dtype).removeprefix("torch.")


def need_frames(frames: Sequence[Atoms]) -> None:
    """
    Raises:
        UsageError: there are none.
    """
    if not frames:
        raise UsageError("a check needs at least one structure, got none")
