"""The last check of an export: a fresh process loads the file where users load it, and agrees."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.io import read, write
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from irprune.errors import CheckFailed, UsageError
from irprune.evaluation.differences import ENERGY_FLOOR, FORCE_FLOOR, need_frames
from irprune.evaluation.potential import Potential
from irprune.families import family_of
from irprune.verification.checks import Check, make_check
from irprune.verification.tolerances import tolerance

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph

STRESS_FLOOR = 0.02
"""eV/Å³ (3 GPa). Smaller stresses are compared absolutely: they are sums that nearly cancel."""
_BOTH: tuple[str, ...] = ("float32", "float64")
_TIMEOUT = 1200.0
_SHOWN_LINES = 3

GRAPH_SCRIPT = '''\
"""usage: python script.py GRAPH_FILE STRUCTURES.extxyz DTYPE OUT.npz [HEAD]"""
import sys

import numpy as np
from ase.io import read

import irprune

model, structures, dtype, out = sys.argv[1:5]
head = sys.argv[5] if len(sys.argv) > 5 else None
calculator = irprune.calculator(model, dtype=dtype, device="cpu", head=head, compiled=False)
energy, forces, stress = [], [], []
for atoms in read(structures, ":"):
    calculator.calculate(atoms)
    energy.append(calculator.results["energy"])
    forces.append(calculator.results["forces"])
    stress.append(calculator.results["stress"])
np.savez(out, energy=np.array(energy), forces=np.concatenate(forces), stress=np.array(stress))
'''


class Values(NamedTuple):
    """Energy [S] eV, forces [ΣN, 3] eV/Å, stress [S, 6] eV/Å³ (ASE's sign and Voigt order)."""

    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]


def reload_check(
    graph: EquivariantGraph,
    tier: str,
    path: str | Path,
    frames: Sequence[Atoms],
    dtypes: Sequence[str] | None = None,
) -> list[Check]:
    """Loads an exported file in a fresh process and compares it with the graph in memory.

    Args:
        graph: what was exported.
        tier: ``native`` or ``surgery``, loaded by the family's own library without irprune; or
            ``graph``, loaded by ``irprune.calculator``.
        path: the file.
        frames: structures to compare on; the stress of those that are periodic in all directions.
        dtypes: precisions to run in; default: ``reload_dtypes`` of the family, or float32; both
            for the tier ``graph``.

    Returns:
        Checks of energy, forces and stress for each precision: the largest difference relative to
        the structure's energy or largest component, floored at 0.1 eV, 0.1 eV/Å, 0.02 eV/Å³.

    Raises:
        CheckFailed: the fresh process failed; with the last lines that it wrote.
        UsageError: no structures, or a graph without atoms.
        DataError: an element that the model does not know.
    """
    need_frames(frames)
    if graph.atomistic is None:
        raise UsageError("this graph is not an interatomic potential: it cannot run on structures")
    for atoms in frames:
        graph.atomistic.species_of(atoms.numbers)
    if tier == "graph":
        script, known = GRAPH_SCRIPT, _BOTH
    else:
        family = family_of(graph)
        script, known = family.reload_script(), getattr(family, "reload_dtypes", _BOTH[:1])
    several = len(graph.atomistic.heads) > 1
    heads = [graph.atomistic.any_head()] if several else []
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="irprune-reload-") as folder:
        structures = Path(folder) / "structures.extxyz"
        same = _written_and_read(frames, structures)
        for dtype in dtypes or known:
            theirs = run_script(script, Path(path), structures, dtype, Path(folder), heads)
            checks += compare(in_memory(graph, same, dtype), theirs, same, dtype)
    return checks


def _written_and_read(frames: Sequence[Atoms], path: Path) -> list[Atoms]:
    """Writes the bare structures, and reads them back as the other process will see them."""
    bare = [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in frames]
    write(path, bare, format="extxyz")
    found = read(path, ":", format="extxyz")
    assert isinstance(found, list)
    return found


def run_script(
    script: str,
    model: Path,
    structures: Path,
    dtype: str,
    folder: Path,
    heads: Sequence[str] = (),
) -> Values:
    """Runs a reload script in a fresh process, in ``folder``; ``heads`` names at most one head.

    Raises:
        CheckFailed: it failed, took too long, or wrote no result; with the last lines of stderr.
    """
    source, out = folder / "reload_script.py", folder / f"{dtype}.npz"
    source.write_text(script)
    arguments = [str(model.resolve()), str(structures), dtype, str(out), *heads]
    command = [sys.executable, str(source), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(
            f"{model} took more than {_TIMEOUT:g} s to load and run in a fresh process"
        ) from error
    if done.returncode or not out.is_file():
        lines = [x.strip() for x in done.stderr.splitlines() if x.strip()][-_SHOWN_LINES:]
        raise CheckFailed(
            f"{model} does not load or run in a fresh process (exit code {done.returncode}): "
            + (" | ".join(lines) or "it wrote no message")
        )
    with np.load(out, allow_pickle=False) as found:
        return Values(*(np.asarray(found[k], dtype=np.float64) for k in Values._fields))


def in_memory(graph: EquivariantGraph, frames: Sequence[Atoms], dtype: str) -> Values:
    """The same values from the graph, one structure at a time."""
    assert graph.atomistic is not None
    head = graph.atomistic.any_head()
    potential = Potential(graph.module(getattr(torch, dtype)), graph.atomistic, head)
    energy, forces, stress = [], [], []
    for atoms in frames:
        found = potential.evaluate(potential.collate([atoms]), forces=True, stress=True)
        assert found.forces is not None
        assert found.stress is not None
        energy.append(float(found.energy[0]))
        forces.append(found.forces.double().cpu().numpy())
        stress.append(full_3x3_to_voigt_6_stress(found.stress[0].double().cpu().numpy()))
    return Values(np.array(energy), np.concatenate(forces), np.array(stress))


def compare(ours: Values, theirs: Values, frames: Sequence[Atoms], dtype: str) -> list[Check]:
    """Largest relative differences as checks.

    Raises:
        CheckFailed: the other process gave arrays of other shapes.
    """
    for name, a, b in zip(Values._fields, ours, theirs, strict=True):
        if a.shape != b.shape:
            raise CheckFailed(
                f"the fresh process gave {name} of shape {b.shape}, expected {a.shape}"
            )
    limit = tolerance("reload", dtype)
    detail = f"{dtype}, {len(frames)} structures"
    cuts = np.cumsum([len(a) for a in frames])[:-1]
    pairs = zip(np.split(ours.forces, cuts), np.split(theirs.forces, cuts), strict=True)
    values = {
        "energy": _worst(list(zip(ours.energy, theirs.energy, strict=True)), ENERGY_FLOOR),
        "forces": _worst(list(pairs), FORCE_FLOOR),
    }
    periodic = [i for i, a in enumerate(frames) if a.pbc.all()]
    if periodic:
        values["stress"] = _worst([(ours.stress[i], theirs.stress[i]) for i in periodic],
                                  STRESS_FLOOR)  # fmt: skip
    return [make_check(f"reload-{k}-{dtype}", v, limit, detail) for k, v in values.items()]


def _worst(pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], floor: float) -> float:
    """Largest max|a − b| / max(max|a|, floor) over the pairs; NaN if any value is not finite."""
    values = [np.abs(b - a).max() / max(float(np.abs(a).max()), floor) for a, b in pairs]
    return float(np.max(values))  # NaN in one is NaN in all
