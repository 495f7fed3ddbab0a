"""Examples: structures with the energies, forces and stress that a student has to learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ase import Atoms
from torch import Tensor

from irprune.data.batch import Batch, concatenate
from irprune.data.frames import check_frames
from irprune.errors import DataError
from irprune.evaluate.potential import Potential


@dataclass(frozen=True, eq=False)
class Examples:
    """B structures and their labels; NaN stands for a label that is missing."""

    batch: Batch
    energy: Tensor
    """[B] eV."""
    forces: Tensor
    """[N, 3] eV/Å."""
    stress: Tensor
    """[B, 3, 3] eV/Å³."""


def join(examples: Sequence[Examples]) -> Examples:
    """The examples one after another."""
    return Examples(
        concatenate([e.batch for e in examples]),
        torch.cat([e.energy for e in examples]),
        torch.cat([e.forces for e in examples]),
        torch.cat([e.stress for e in examples]),
    )


def from_teacher(
    student: Potential, teacher: Potential, frames: Sequence[Atoms], stress: bool
) -> list[Examples]:
    """What ``teacher`` predicts for each frame, in the dtype and on the device of ``student``.

    Raises:
        DataError: a frame that a model cannot run on, or a prediction that is not finite.
    """
    check_frames(frames, student.atomistic)
    out = []
    for number, atoms in enumerate(frames):
        found = teacher.evaluate(teacher.collate([atoms]), stress=stress)
        batch = student.collate([atoms])
        like = batch.positions
        assert found.forces is not None
        if not bool(torch.isfinite(found.forces).all() and torch.isfinite(found.energy).all()):
            raise DataError(
                f"the teacher's prediction for frame {number} ({atoms.get_chemical_formula()}) is"
                " not finite; remove this frame"
            )
        target = found.stress if found.stress is not None else torch.full((1, 3, 3), math.nan)
        out.append(Examples(batch, found.energy.to(like), found.forces.to(like), target.to(like)))
    return out


def from_labels(student: Potential, frames: Sequence[Atoms]) -> list[Examples]:
    """The labels that the frames carry, in the dtype and on the device of ``student``.

    Raises:
        DataError: a frame that cannot be used, or no frame with energies or forces.
    """
    labels = check_frames(frames, student.atomistic)
    if not any(found.has("energy") or found.has("forces") for found in labels):
        raise DataError(
            f"none of the {len(frames)} structures has an energy or forces; give labelled data,"
            " or a teacher model that labels them"
        )
    out = []
    for atoms, found in zip(frames, labels, strict=True):
        batch = student.collate([atoms])
        like = batch.positions
        energy = torch.tensor([math.nan if found.energy is None else found.energy]).to(like)
        forces = torch.full_like(like, math.nan)
        stress = torch.full_like(batch.cell, math.nan)
        if found.forces is not None:
            forces = torch.as_tensor(found.forces).to(like)
        if found.stress is not None:
            stress = torch.as_tensor(found.stress)[None].to(like)
        out.append(Examples(batch, energy, forces, stress))
    return out


def calm(examples: Sequence[Examples], max_force: float) -> list[Examples]:
    """Those without a force component above ``max_force`` (eV/Å).

    Raises:
        DataError: none is left.
    """
    kept = [e for e in examples if not bool((e.forces.abs() > max_force).any())]
    if not kept:
        raise DataError(
            f"every structure has a force above {max_force:g} eV/Å; give calmer structures or"
            " raise max_force"
        )
    return kept
