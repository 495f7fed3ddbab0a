"""Errors of a potential against labels, and of one potential against another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from irprune.data.frames import LABELS, Labels, check_frames
from irprune.errors import DataError, UsageError
from irprune.evaluation.potential import Potential, Prediction

GPA_PER_EV_A3 = 1.0 / units.GPa
"""160.2177 GPa are 1 eV/Å³."""

Progress = Callable[[int, int], None]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """Means over structures (energy), over force components, and over stress components.

    ``None`` where no structure has what is compared; ``missing`` says which, and on how many
    structures each label is missing.
    """

    energy_mae_ev_per_atom: float | None
    energy_rmse_ev_per_atom: float | None
    energy_bias_ev_per_atom: float | None
    """Mean of predicted minus reference: large if both use different reference energies."""
    force_mae_ev_per_a: float | None
    force_rmse_ev_per_a: float | None
    force_max_ev_per_a: float | None
    """Largest error of a component."""
    force_cosine: float | None
    """Σ F·F_ref / (|F| |F_ref|), all components of all structures as one vector."""
    stress_mae_gpa: float | None
    stress_rmse_gpa: float | None
    n_frames: int
    n_atoms: int
    missing: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return asdict(self) | {"missing": dict(self.missing)}


def evaluate_frames(
    potential: Potential,
    frames: Sequence[Atoms],
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Metrics:
    """Errors against the labels of the frames; labels may be missing in part.

    Args:
        potential: the model.
        frames: structures with labels, as ``irprune.data.frames.labels_of`` finds them.
        batch_size: structures evaluated together.
        progress: called with (structures done, structures).

    Raises:
        DataError: unusable frames, no label on any of them, or a prediction that is not finite.
        UsageError: a batch size below one.
    """
    labels = check_frames(frames, potential.atomistic)
    if not any(found.has(name) for found in labels for name in LABELS):
        raise DataError(
            f"none of the {len(frames)} structures has an energy, forces or stress to compare with;"
            " give labelled data, or a second model to compare with"
        )
    with_stress = any(found.has("stress") for found in labels)
    tally = _Tally()
    _walk(
        frames,
        batch_size,
        progress,
        lambda part, start: tally.add(
            _split(potential, part, with_stress, start), labels[start : start + len(part)], part
        ),
    )
    return tally.metrics()


def compare_potentials(
    a: Potential,
    b: Potential,
    frames: Sequence[Atoms],
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Metrics:
    """Errors of ``a`` with the predictions of ``b`` as reference; the frames need no labels.

    The stress is compared for structures with a cell that has a volume.

    Raises:
        DataError: frames that one of the two cannot run on, or a prediction that is not finite.
        UsageError: a batch size below one.
    """
    check_frames(frames, a.atomistic)
    check_frames(frames, b.atomistic)
    tally = _Tally()

    def add(part: Sequence[Atoms], start: int) -> None:
        reference = [
            found if atoms.cell.rank == 3 else Labels(found.energy, found.forces, None, {})
            for found, atoms in zip(_split(b, part, True, start), part, strict=True)
        ]
        tally.add(_split(a, part, True, start), reference, part)

    _walk(frames, batch_size, progress, add)
    return tally.metrics()


def _walk(
    frames: Sequence[Atoms],
    batch_size: int,
    progress: Progress | None,
    add: Callable[[Sequence[Atoms], int], None],
) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    for start in range(0, len(frames), batch_size):
        part = frames[start : start + batch_size]
        add(part, start)
        if progress is not None:
            progress(start + len(part), len(frames))


def _split(potential: Potential, frames: Sequence[Atoms], stress: bool, start: int) -> list[Labels]:
    """Predictions of each structure by itself; ``start`` is the number of the first.

    Raises:
        DataError: a prediction that is not finite; names the structure.
    """
    batch = potential.collate(frames)
    out: Prediction = potential.evaluate(batch, stress=stress)
    assert out.forces is not None
    energy = out.energy.double().cpu().numpy()
    forces = out.forces.double().cpu().numpy()
    stresses = out.stress.double().cpu().numpy() if out.stress is not None else None
    ends = np.cumsum([len(a) for a in frames])
    found = [
        Labels(
            float(energy[i]),
            forces[end - len(atoms) : end],
            None if stresses is None else stresses[i],
            {},
        )
        for i, (atoms, end) in enumerate(zip(frames, ends, strict=True))
    ]
    for number, (atoms, one) in enumerate(zip(frames, found, strict=True), start):
        for name in LABELS:
            if (name == "stress" and atoms.cell.rank < 3) or not one.has(name):
                continue
            if not np.isfinite(getattr(one, name)).all():
                raise DataError(
                    f"the {name} that the model predicts for frame {number}"
                    f" ({atoms.get_chemical_formula()}) is not finite; are atoms on top of each"
                    " other? Remove the frame"
                )
    return found


class _Tally:
    """Errors collected structure by structure."""

    def __init__(self) -> None:
        self.errors: dict[str, list[Floats]] = {name: [] for name in LABELS}
        self.missing = dict.fromkeys(LABELS, 0)
        self.products = np.zeros(3)
        self.n_frames = 0
        self.n_atoms = 0

    def add(
        self, found: Sequence[Labels], reference: Sequence[Labels], frames: Sequence[Atoms]
    ) -> None:
        for one, other, atoms in zip(found, reference, frames, strict=True):
            self.n_frames += 1
            self.n_atoms += len(atoms)
            if other.energy is not None and one.energy is not None:
                error = np.array([(one.energy - other.energy) / len(atoms)])
                self.errors["energy"].append(error)
            if other.forces is not None and one.forces is not None:
                f, g = one.forces.ravel(), other.forces.ravel()
                self.errors["forces"].append(f - g)
                self.products += (f @ g, f @ f, g @ g)
            if other.stress is not None and one.stress is not None:
                self.errors["stress"].append((one.stress - other.stress).ravel() * GPA_PER_EV_A3)
            for name in LABELS:
                self.missing[name] += not other.has(name)

    def metrics(self) -> Metrics:
        energy, forces, stress = (
            np.concatenate(self.errors[n]) if self.errors[n] else None for n in LABELS
        )
        fg, ff, gg = self.products.tolist()
        return Metrics(
            energy_mae_ev_per_atom=_mae(energy),
            energy_rmse_ev_per_atom=_rmse(energy),
            energy_bias_ev_per_atom=None if energy is None else float(energy.mean()),
            force_mae_ev_per_a=_mae(forces),
            force_rmse_ev_per_a=_rmse(forces),
            force_max_ev_per_a=None if forces is None else float(np.abs(forces).max()),
            force_cosine=fg / math.sqrt(ff * gg) if ff > 0 and gg > 0 else None,
            stress_mae_gpa=_mae(stress),
            stress_rmse_gpa=_rmse(stress),
            n_frames=self.n_frames,
            n_atoms=self.n_atoms,
            missing={k: v for k, v in self.missing.items() if v},
        )


def _mae(errors: Floats | None) -> float | None:
    return None if errors is None else float(np.abs(errors).mean())


def _rmse(errors: Floats | None) -> float | None:
    return None if errors is None else float(np.sqrt(np.square(errors).mean()))
