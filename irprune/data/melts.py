"""Structures of melts, by short molecular dynamics with a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from irprune.atomistic import Atomistic
from irprune.data.generate import closeness, generate
from irprune.errors import DataError, UsageError

CLOSEST = 0.45
"""In a melt atoms come nearer than in what is generated: times the sum of their covalent radii."""
STEP_FS, FRICTION = 2.0, 0.02
"""Time step in fs, and friction of the thermostat per fs."""
_TRIES = 4


def melts(
    elements: Atomistic | Iterable[str | int],
    n: int,
    seed: int,
    calculator: Calculator,
    *,
    temperature: float = 3000.0,
    steps: int = 100,
    max_atoms: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> list[Atoms]:
    """``n`` snapshots, each at the end of a Langevin run of its own that begins at a rattled crystal.

    A run that flies apart or in which atoms collide is made again at half the temperature.

    Args:
        elements: to draw from.
        n: how many.
        seed: of crystals, velocities and noise: the same model on the same machine gives the same.
        calculator: energies and forces, such as ``irprune.calculator(teacher)``.
        temperature: K.
        steps: of 2 fs.
        max_atoms: per structure.
        progress: called with (structures done, structures).

    Raises:
        UsageError: numbers that make no sense.
        DataError: a structure that flies apart at every temperature that was tried.
    """
    if n < 0 or steps < 1 or not temperature > 0:
        raise UsageError(
            "melts needs n >= 0, steps >= 1 and a temperature above 0 K,"
            f" got n={n}, steps={steps}, temperature={temperature}"
        )
    out = []
    for i, start in enumerate(generate(elements, n, seed, ("rattled",), max_atoms)):
        out.append(_melted(start, calculator, temperature, steps, np.random.default_rng([seed, i])))
        out[-1].info.update(start.info, kind="melt")
        if progress is not None:
            progress(i + 1, n)
    return out


def _melted(
    start: Atoms, calculator: Calculator, temperature: float, steps: int, rng: np.random.Generator
) -> Atoms:
    for attempt in range(_TRIES):
        atoms, kelvin = start.copy(), temperature / 2**attempt
        atoms.calc = calculator
        # as ASE's own generators, which take numpy's legacy interface
        noise = np.random.RandomState(int(rng.integers(2**31)))
        MaxwellBoltzmannDistribution(atoms, temperature_K=kelvin, rng=noise)
        dynamics = Langevin(
            atoms,
            STEP_FS * units.fs,
            temperature_K=kelvin,
            friction=FRICTION / units.fs,
            rng=noise,
        )
        try:
            dynamics.run(steps)
        except DataError:  # no neighbours can be found of atoms that are nowhere
            if np.isfinite(atoms.positions).all():
                raise
        atoms.calc = None
        sane = np.isfinite(atoms.positions).all() and np.abs(atoms.positions).max() < 1e3
        if sane and closeness(atoms) >= CLOSEST:
            return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    raise DataError(
        f"{start.get_chemical_formula()} flies apart at {temperature:g} K and three halves of it;"
        " lower the temperature, or leave its elements out"
    )
