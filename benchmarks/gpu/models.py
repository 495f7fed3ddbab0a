"""Whole models: energy, forces and stress by the reference and by the Triton kernels, in turn.

The Triton kernels run on the graph as the pass lay-out leaves it, the reference on the graph as it is.
The calls are not captured in CUDA graphs: the pairs of edges of share-pairs are counted, which waits
for the GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from torch import Tensor

from benchmarks.gpu.device import Device, in_turn
from benchmarks.gpu.failures import attempt
from benchmarks.gpu.sizes import near

SIZES = (64, 512, 4096, 32768)
BACKENDS = ("reference", "triton")
RATTLE = 0.05
"""Å: in a perfect crystal forces are zero, and differences of them say nothing."""
TOLERANCES = {"energy": 1e-5, "forces": 1e-4, "stress": 1e-3}
"""Largest difference, of the largest number: float32 in another order of sums. Terms of the stress
cancel.
"""


def measure(
    model: str, atoms: int, device: Device, rounds: int = 7, layout: str = "ir_mul"
) -> dict[str, Any]:
    """One optimized model (a graph file) on a crystal with about so many atoms.

    A backend that needs more memory than there is has neither results nor times; the other is timed.
    ``layout`` is that of the rows of irreps between the Triton kernels.
    """
    from irprune import api
    from irprune.cli.profile import crystal

    graph = api.load(model)
    structure = near(crystal([model], [graph]), atoms)
    structure.rattle(RATTLE, seed=0)
    laid_out, report = api.run_reported(f"lay-out{{layout={layout}}}", graph)
    batch, served, configs = None, 0, {}
    calls: dict[str, Callable[[], object]] = {}
    results: dict[str, dict[str, Tensor]] = {}
    failed: dict[str, str] = {}
    for name in BACKENDS:
        found, served = bound(laid_out if name == "triton" else graph, name)
        moved = found.to(device=device.place)
        batch = moved.collate([structure]) if batch is None else batch
        call = partial(moved.evaluate, batch, stress=True)
        made = attempt(failed, name, partial(numbers_of, call))
        if made is not None:
            calls[name], results[name] = call, made
            if name == "triton":
                configs = configs_of(moved, len(structure), batch.n_edges)
    assert batch is not None
    times = in_turn(calls, device.timer, rounds, failed=failed)
    medians = {name: median(t) for name, t in times.items()}
    errors = differences(*results.values()) if len(results) == len(BACKENDS) else None
    return {
        "atoms": len(structure),
        "edges": batch.n_edges,
        "served": served,
        "configs": configs,
        "layout": layout,
        "conversions": report.results["lay-out"]["left"],
        "errors": errors,
        "ok": errors is None or all(errors[k] <= TOLERANCES[k] for k in TOLERANCES),
        "failed": failed,
        "seconds": times,
        "microseconds_per_atom": {n: 1e6 * t / len(structure) for n, t in medians.items()},
        "reference_over_triton": (
            medians["reference"] / medians["triton"] if len(medians) == len(BACKENDS) else None
        ),
    }


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


def bound(graph: Any, backend: str) -> tuple[Any, int]:
    """A potential whose kernels are those of one backend where it is meant to serve, and how many are.

    Other nodes are the reference's, so that only one thing differs.
    """
    from irprune.evaluation.potential import Potential
    from irprune.kernelplan import kernel_nodes
    from irprune.specs.path import PathSpec
    from irprune.specs.poly import PolySpec

    gm, served = copy.deepcopy(graph.gm), 0
    for _, module in kernel_nodes(gm):
        mine = isinstance(module.spec, PathSpec | PolySpec)
        module.backend = backend if mine else "reference"
        served += mine
    return Potential(gm, graph.atomistic, graph.atomistic.any_head()), served
