"""What is compiled, run for the first time, and compared with the graph as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from ase import Atoms
from torch import Tensor

from irprune.compiling.compiled import Compiled
from irprune.errors import LegalityError
from irprune.evaluation.differences import differences, dtype_name
from irprune.evaluation.potential import Potential
from irprune.verification.checks import Check, make_check, worse
from irprune.verification.tolerances import tolerance

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph

STRESS_FLOOR = 0.02
"""eV/Å³ (3 GPa). Smaller stresses are compared absolutely: they are sums that nearly cancel."""
MANY, FEW = 12, 3


def compiled_rung(graph: EquivariantGraph, frames: Sequence[Atoms]) -> Check:
    """Largest relative difference of the compiled graph and the graph as it is, in its own dtype.

    Energies, forces and stress of each structure, and of all of them in one batch.
    """
    ours, module = _compiled(graph)
    assert graph.atomistic is not None
    plain = Potential(module.module, graph.atomistic, ours.head)
    worst = 0.0
    for some in (*([a] for a in frames), list(frames)):
        batch = plain.collate(some)
        a, b = (p.evaluate(batch, stress=True) for p in (plain, ours))
        for value in differences(a, b, batch.batch):
            worst = worse(worst, value)
        worst = worse(worst, _stress(a.stress, b.stress))
    limit = tolerance("compiled", dtype_name(ours.dtype), graph.atomistic.dtype)
    return make_check("compiled", worst, limit, summary(module.counts()))


def first_run(graph: EquivariantGraph, seed: int = 0) -> dict[str, Any]:
    """Compiles a graph on generated structures and gives the counts.

    Raises:
        LegalityError: no interatomic potential, or an operation that cannot be compiled.
        CompileError: torch.compile failed.
    """
    from irprune.data.generate import generate

    if graph.atomistic is None:
        raise LegalityError(
            "only interatomic potentials are compiled: this graph has no cutoff and no elements;"
            " leave compile out"
        )
    ours, module = _compiled(graph)
    for atoms in generate(graph.atomistic, MANY, seed, max_atoms=12):
        ours.evaluate(ours.collate([atoms]))
    if not module.compilations:  # molecules of two atoms, every one
        frames = list(generate(graph.atomistic, FEW, seed, max_atoms=12))
        ours.evaluate(ours.collate(frames))
    return module.counts()


def _compiled(graph: EquivariantGraph) -> tuple[Potential, Compiled]:
    assert graph.atomistic is not None
    module = graph.runnable()
    assert isinstance(module, Compiled)
    return Potential(module, graph.atomistic, graph.atomistic.any_head()), module


def _stress(a: Tensor | None, b: Tensor | None) -> float:
    assert a is not None and b is not None
    error = (a - b).abs().amax((1, 2)) / a.abs().amax((1, 2)).clamp(min=STRESS_FLOOR)
    return float(error.max()) if bool(torch.isfinite(error).all()) else float("nan")


def summary(counts: Mapping[str, Any]) -> str:
    """Counts in words: ``1 graph, 0 recompilations``."""
    graphs, again, plain = (counts[k] for k in ("graphs", "recompilations", "plain_calls"))
    text = f"{graphs} graph{'s' * (graphs != 1)}, {again} recompilation{'s' * (again != 1)}"
    return text + (f", {plain} calls too small to compile" if plain else "")
