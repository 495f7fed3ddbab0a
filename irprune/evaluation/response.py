"""Check that a potential depends on positions at all.

A network that was cut too far gives the same energy for everything. It is equivariant, its forces are
the derivatives of its energy, and every other check passes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from irprune.evaluation.differences import forces_of, need_frames
from irprune.evaluation.potential import Potential
from irprune.verification.checks import Check, make_check, worse
from irprune.verification.tolerances import tolerance

MOVED = 0.05
"""Å, standard deviation: in a perfect crystal forces vanish by symmetry."""
NOTHING = 1e-9
"""eV/Å and eV: what no force and no virial of a model in use is as small as."""


def response(potential: Potential, frames: Sequence[Atoms], seed: int = 0) -> Check:
    """The share of the structures with neighbours that have neither forces nor stress.

    Atoms are moved first. In float64 whatever the dtype of the model. A not-a-number counts as none.
    """
    need_frames(frames)
    model, rng = potential.to(torch.float64), np.random.default_rng(seed)
    with_neighbours, dead, largest = 0, 0, 0.0
    for atoms in frames:
        moved = atoms.copy()
        moved.positions += rng.normal(scale=MOVED, size=(len(atoms), 3))
        batch = model.collate([moved])
        volume = atoms.pbc.any() and atoms.cell.rank == 3
        if not batch.n_edges or (len(atoms) == 1 and not volume):
            continue  # nothing acts, or an atom's images pull it to all sides alike
        with_neighbours += 1
        out = model.evaluate(batch, stress=bool(volume))
        found = float(forces_of(out).abs().max())
        if volume:
            assert out.stress is not None
            found = worse(found, float(out.stress.abs().max()) * atoms.cell.volume)
        dead += not found > NOTHING
        largest = worse(largest, found)
    share = dead / with_neighbours if with_neighbours else 0.0
    detail = "nothing was looked at: no structure has atoms that act on each other"
    if with_neighbours:
        detail = (
            f"{dead} of {with_neighbours} structures without forces and stress, the largest"
            f" {largest:.2g} eV/Å or eV"
        )
    return make_check("response", share, tolerance("response", "float64"), detail)
