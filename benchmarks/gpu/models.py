"""Whole models: energy, forces and stress in every way that they can be run, in turn.

As loaded (a graph file of e3nn's own modules), and optimized with the kernels of the reference, of
cuEquivariance and of Triton.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from torch import Tensor

from benchmarks.gpu.device import Device, in_turn
from benchmarks.gpu.failures import attempt
from benchmarks.gpu.sizes import near
from benchmarks.gpu.ways import PREPARED, TRITON, Way, bound, ways

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.data.batch import Batch
    from irprune.evaluation.potential import Potential
    from irprune.graph import EquivariantGraph

SIZES = (64, 512, 4096, 32768)
RATTLE = 0.05
"""Å: in a perfect crystal forces are zero, and differences of them say nothing."""
TOLERANCES = {"energy": 1e-5, "forces": 1e-4, "stress": 1e-3}
"""Largest difference, of the largest number: float32 in another order of sums. Terms of the stress
cancel.
"""


def measure(
    model: str,
    atoms: int,
    device: Device,
    rounds: int = 7,
    layout: str = "ir_mul",
    original: str | None = None,
) -> dict[str, Any]:
    """One optimized model (a graph file) on a crystal with about so many atoms.

    A way that needs more memory than there is has neither results nor times; the others are timed.

    Args:
        model: graph file that ``irprune optimize`` wrote.
        atoms: of the crystal, about.
        device: that runs and times.
        rounds: times of each.
        layout: of the rows of irreps between the Triton kernels.
        original: graph file of the same model as it was loaded.
    """
    from irprune import api

    graph, prepared, structure, conversions = opened(model, atoms, layout)
    first = None if original is None else api.load(original)
    calls: dict[str, Callable[[], object]] = {}
    results: dict[str, dict[str, Tensor]] = {}
    failed: dict[str, str] = {}
    facts: dict[str, Any] = {"dtypes": {}}
    batches: list[tuple[Potential, Batch]] = []
    for way in ways(graph, prepared, first, device.place):
        made = attempt(failed, way.name, partial(_ready, way, structure, device, batches, facts))
        if made is not None:
            calls[way.name], results[way.name] = made
    times = in_turn(calls, device.timer, rounds, failed=failed)
    medians = {name: median(t) for name, t in times.items()}
    exact, *others = results or [None]
    errors = {name: differences(results[exact], results[name]) for name in others}
    dtypes = facts["dtypes"]
    return {
        "atoms": len(structure),
        **facts,
        "layout": layout,
        "conversions": conversions,
        "compared_with": exact,
        "errors": errors,
        "ok": all(e[k] <= TOLERANCES[k] for e in errors.values() for k in TOLERANCES),
        "failed": failed,
        "seconds": times,
        "microseconds_per_atom": {n: 1e6 * t / len(structure) for n, t in medians.items()},
        "over_triton": {
            n: t / medians[TRITON]
            for n, t in medians.items()
            if TRITON in medians and n != TRITON and dtypes[n] == dtypes[TRITON]
        },
    }


def opened(
    model: str, atoms: int, layout: str
) -> tuple[EquivariantGraph, EquivariantGraph, Atoms, int]:
    """A graph file, as it is and as ``PREPARED`` leaves it; a crystal; conversions that are left."""
    from irprune import api

    graph = api.load(model)
    structure = structure_for(model, graph, atoms)
    prepared, report = api.run_reported(PREPARED.format(layout=layout), graph)
    return graph, prepared, structure, report.results["lay-out"]["left"]


def structure_for(model: str, graph: EquivariantGraph, atoms: int) -> Atoms:
    """The crystal with about so many atoms that a model is timed on."""
    from irprune.cli.profile import crystal

    structure = near(crystal([model], [graph]), atoms)
    structure.rattle(RATTLE, seed=0)
    return structure


def _ready(
    way: Way,
    structure: Atoms,
    device: Device,
    batches: list[tuple[Potential, Batch]],
    facts: dict[str, Any],
) -> tuple[Callable[[], object], dict[str, Tensor]]:
    """The call of a way, and its results; notes what is known of it then.

    Ways that read the same of a structure share it: a large neighbour list takes the host seconds.
    """
    found, served = bound(way)
    moved = found.to(device=device.place)
    alike = (
        batch
        for other, batch in batches
        if (other.atomistic, other.dtype) == (moved.atomistic, moved.dtype)
    )
    batch = next(alike, None)
    if batch is None:
        batch = moved.collate([structure])
        batches.append((moved, batch))
    facts["edges"] = batch.n_edges
    facts["dtypes"][way.name] = str(moved.dtype).removeprefix("torch.")
    call = partial(moved.evaluate, batch, stress=True)
    made = numbers_of(call)
    if way.name == TRITON:
        facts["served"] = served
        facts["configs"] = configs_of(moved, len(structure), batch.n_edges)
    return call, made


def configs_of(potential: Any, atoms: int, edges: int) -> dict[str, str]:
    """Node → the configuration of the Triton kernels that serves it at this size."""
    from benchmarks.gpu.choice import config_of
    from irprune.kernelplan import kernel_nodes
    from irprune.specs.path import PathSpec
    from irprune.specs.poly import PolySpec

    found = {}
    for node, module in kernel_nodes(potential.module):
        if isinstance(module.spec, PathSpec | PolySpec):
            config = config_of(module.spec, potential.dtype, potential.device, atoms, edges)
            found[node.name] = str(config)
    return found


def numbers_of(call: Callable[[], Any]) -> dict[str, Tensor]:
    """Energy, forces and stress, off the GPU."""
    made = call()
    return {name: getattr(made, name).detach().cpu() for name in TOLERANCES}


def differences(exact: dict[str, Tensor], made: dict[str, Tensor]) -> dict[str, float]:
    """The largest difference of each quantity, of its largest number; not a number where one is not."""
    found = {}
    for name, wanted in exact.items():
        largest = max(float(wanted.abs().max()), 1e-12)
        found[name] = float((made[name] - wanted).abs().max()) / largest
    return found
