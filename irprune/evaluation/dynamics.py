"""Check that a short molecular dynamics run conserves energy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms, units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

from irprune.data.choice import number_in
from irprune.errors import DataError
from irprune.evaluation.calculator import IrpruneCalculator
from irprune.evaluation.differences import dtype_name, forces_of, need_frames
from irprune.evaluation.potential import Potential
from irprune.verification.checks import Check, make_check, worse
from irprune.verification.tolerances import tolerance


def nve(
    potential: Potential,
    frames: Sequence[Atoms],
    steps: int = 50,
    timestep_fs: float = 0.5,
    temperature_k: float = 300.0,
    seed: int = 0,
) -> Check:
    """Largest |E_total(t) − E_total(0)| per atom (eV) in a short run of velocity Verlet.

    Runs the structure with more than one atom whose largest force is smallest, in the model's own
    dtype, from Maxwell-Boltzmann velocities without net momentum.

    Raises:
        DataError: every structure is a single atom without neighbours.
    """
    need_frames(frames)
    results = [potential.evaluate(potential.collate([a])) for a in frames]
    largest = {
        i: float(forces_of(r).abs().max()) for i, r in enumerate(results) if len(frames[i]) > 1
    }
    if not largest:
        raise DataError("the NVE check needs a structure of at least two atoms")
    number = min(largest, key=largest.__getitem__)
    atoms = frames[number].copy()
    atoms.calc = IrpruneCalculator(potential.module, potential.atomistic, head=potential.head)
    rng = np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature_k, rng=rng)
    Stationary(atoms)
    start = atoms.get_total_energy()
    dynamics = VelocityVerlet(atoms, timestep=timestep_fs * units.fs)
    drift, done = 0.0, 0
    while done < steps and np.isfinite(atoms.get_forces()).all() and np.isfinite(drift):
        dynamics.run(1)
        done += 1
        drift = worse(drift, abs(atoms.get_total_energy() - start) / len(atoms))
    detail = (
        f"{done} steps of {timestep_fs} fs from {temperature_k:g} K, frame {number_in(frames, number)}"
        f" ({atoms.get_chemical_formula()}), eV/atom"
    )
    limit = tolerance("nve", dtype_name(potential.dtype), potential.atomistic.dtype)
    return make_check("nve", drift if done == steps else math.nan, limit, detail)
