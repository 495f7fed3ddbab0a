"""Examples: structures with what a student has to learn about them, as named tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from irprune.data.batch import Batch, concatenate
from irprune.data.frames import check_frames
from irprune.errors import DataError
from irprune.evaluation.potential import Potential
from irprune.recover.features import Watched

PROBE = "probe"
"""Name of the directions [N, 3] along which forces are differentiated."""


@dataclass(frozen=True, eq=False)
class Examples:
    """B structures and targets; NaN stands for a label that is missing.

    Targets are named ``SOURCE.WHAT`` with source ``labels`` or ``teacher``: ``energy`` [B] eV,
    ``forces`` [N, 3] eV/Å, ``stress`` [B, 3, 3] eV/Å³, ``node-energy`` [N] eV, ``hessian``
    [N, 3] eV/Å², ``features NODE`` [N, dim].
    """

    batch: Batch
    targets: Mapping[str, Tensor]


def join(examples: Sequence[Examples]) -> Examples:
    """The examples one after another."""
    names = examples[0].targets
    return Examples(
        concatenate([e.batch for e in examples]),
        {k: torch.cat([e.targets[k] for e in examples]) for k in names},
    )


class Source(Protocol):
    """Says what is to be learned about a structure."""

    def targets(self, number: int, atoms: Atoms, batch: Batch) -> dict[str, Tensor]:
        """In the dtype and on the device of ``batch``; ``number`` is that of the structure."""
        ...


class Labels:
    """What the data say."""

    def __init__(self, frames: Sequence[Atoms], student: Potential) -> None:
        """
        Raises:
            DataError: a frame that cannot be used, or no frame with energies or forces.
        """
        self.found = check_frames(frames, student.atomistic)
        if not any(f.has("energy") or f.has("forces") for f in self.found):
            raise DataError(
                f"none of the {len(frames)} structures has an energy or forces; give labelled data,"
                " or a teacher model that labels them"
            )

    def targets(self, number: int, atoms: Atoms, batch: Batch) -> dict[str, Tensor]:
        like, found = batch.positions, self.found[number]
        energy = math.nan if found.energy is None else found.energy
        forces = torch.full_like(like, math.nan)
        stress = torch.full_like(batch.cell, math.nan)
        if found.forces is not None:
            forces = torch.as_tensor(found.forces).to(like)
        if found.stress is not None and atoms.cell.rank == 3:
            stress = torch.as_tensor(found.stress)[None].to(like)
        return {
            "labels.energy": torch.tensor([energy]).to(like),
            "labels.forces": forces,
            "labels.stress": stress,
        }


class Teacher:
    """What another model says; nothing is kept of it but the values."""

    def __init__(
        self,
        model: Potential,
        student: Potential,
        *,
        stress: bool = False,
        features: bool = False,
        node_energy: bool = False,
        probe_seed: int | None = None,
    ) -> None:
        """
        Args:
            model: with a ``Watched`` module where features are wanted.
            student: whose batches it is asked about; it may know other elements, or another cutoff.
            stress: say the stress.
            features: say the features of the nodes that the module watches.
            node_energy: say the energy of each atom.
            probe_seed: say the derivative of forces along random directions from this seed.
        """
        self.model, self.student = model, student
        self.stress, self.features = stress, features
        self.node_energy, self.probe_seed = node_energy, probe_seed

    def targets(self, number: int, atoms: Atoms, batch: Batch) -> dict[str, Tensor]:
        """
        Raises:
            DataError: a prediction that is not finite.
        """
        like, own = batch.positions, self._own(atoms, batch)
        probe = None
        if self.probe_seed is not None:
            rng = np.random.default_rng([self.probe_seed, number])
            probe = torch.from_numpy(rng.normal(size=tuple(like.shape))).to(like)
        along = None if probe is None else probe.to(own.positions)
        found = self.model.evaluate(own, stress=self.stress, along=along)
        assert found.forces is not None
        out = {"energy": found.energy, "forces": found.forces}
        if found.stress is not None:
            solid = (batch.volume > 0)[:, None, None].to(found.stress.device)
            out["stress"] = torch.where(solid, found.stress, math.nan)
        if self.node_energy:
            out["node-energy"] = found.energies
        if found.force_slopes is not None:
            out["hessian"] = found.force_slopes
        if self.features:
            assert isinstance(self.model.module, Watched)
            seen = self.model.module.taken()
            out |= {f"features {k}": v for k, v in seen.items()}
        for name, value in out.items():
            if name != "stress" and not bool(torch.isfinite(value).all()):
                raise DataError(f"the teacher's {name} is not finite; remove this structure")
        named = {f"teacher.{k}": v.detach().to(like) for k, v in out.items()}
        return named if probe is None else {**named, PROBE: probe}

    def _own(self, atoms: Atoms, batch: Batch) -> Batch:
        """The structure with the neighbours, species and head that the teacher knows it by."""
        if alike(self.model, self.student):
            return batch.to(self.model.dtype, self.model.device)
        return self.model.collate([atoms])


def alike(a: Potential, b: Potential) -> bool:
    """Whether one batch serves both: the same cutoff, elements in the same order, and head."""

    def known(p: Potential) -> tuple[object, ...]:
        about = p.atomistic
        return about.cutoff, about.atomic_numbers, about.head_index(p.head)

    return known(a) == known(b)
