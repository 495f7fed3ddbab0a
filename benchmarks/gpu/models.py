"""Whole models: energy, forces and stress by the reference and by the Triton kernels, in turn.

The Triton kernels run on the graph as the pass lay-out leaves it, the reference on the graph as it is.
The calls are not captured in CUDA graphs: the pairs of edges of share-pairs are counted, which waits
for the GPU.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.device import Device, in_turn

SIZES = (64, 512, 4096, 32768)
BACKENDS = ("reference", "triton")
RATTLE = 0.05
"""Å: in a perfect crystal forces are zero, and differences of them say nothing."""
TOLERANCE = 1e-4
"""Largest difference of a force, of the largest force: float32 in another order of sums."""


def measure(
    model: str, atoms: int, device: Device, rounds: int = 7, layout: str = "ir_mul"
) -> dict[str, Any]:
    """One optimized model (a graph file) on a crystal with at least so many atoms.

    ``layout`` is that of the rows of irreps between the Triton kernels.
    """
    from irprune import api
    from irprune.cli.profile import crystal
    from irprune.data.generate import repeated

    graph = api.load(model)
    structure = repeated(crystal([model], [graph]), atoms)
    structure.rattle(RATTLE, seed=0)
    calls: dict[str, Callable[[], object]] = {}
    forces = {}
    edges = 0
    laid_out, report = api.run_reported(f"lay-out{{layout={layout}}}", graph)
    laid = report.results["lay-out"]
    for name in BACKENDS:
        found, served = bound(laid_out if name == "triton" else graph, name)
        batch = found.to(device=device.place).collate([structure])
        moved = found.to(device=device.place)
        edges = batch.n_edges
        calls[name] = lambda m=moved, b=batch: m.evaluate(b, stress=True)
        forces[name] = moved.evaluate(batch, stress=True).forces
    largest = float(forces["reference"].abs().max())
    error = float((forces["triton"] - forces["reference"]).abs().max()) / max(largest, 1e-12)
    times = in_turn(calls, device.timer, rounds)
    medians = {name: statistics.median(t) for name, t in times.items()}
    return {
        "model": model,
        "atoms": len(structure),
        "edges": edges,
        "served": served,
        "layout": layout,
        "conversions": laid["left"],
        "error": error,
        "ok": error <= TOLERANCE,
        "seconds": times,
        "microseconds_per_atom": {n: 1e6 * t / len(structure) for n, t in medians.items()},
        "reference_over_triton": medians["reference"] / medians["triton"],
    }


def bound(graph: Any, backend: str) -> tuple[Any, int]:
    """A potential whose kernels are those of one backend where it is meant to serve, and how many are.

    Other nodes are the reference's, so that only one thing differs.
    """
    from irprune.evaluate.potential import Potential
    from irprune.kernelplan import kernel_nodes
    from irprune.specs.path import PathSpec
    from irprune.specs.poly import PolySpec

    gm, served = copy.deepcopy(graph.gm), 0
    for _, module in kernel_nodes(gm):
        mine = isinstance(module.spec, PathSpec | PolySpec)
        module.backend = backend if mine else "reference"
        served += mine
    return Potential(gm, graph.atomistic, graph.atomistic.any_head()), served
