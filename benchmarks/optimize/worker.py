"""Times or weighs variants in a fresh process: python -m benchmarks.optimize.worker JOB.json.

With ``peak`` in the job one call of one variant is made, and the largest resident memory reported.
"""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.files import read_json, write_json
from benchmarks.optimize.variants import BY_NAME, EXACT, calculator
from benchmarks.problems import CRYSTALS, MODELS
from benchmarks.timing import in_turn, paired_ratios
from benchmarks.worker import JIT_CALLS, Bench, edges_per_atom


def load(job: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Calculators by variant, and why others could not be made or run."""
    model = MODELS[job["model"]]
    made, failed = {}, {}
    small = CRYSTALS[model.crystal].supercell(8)
    for name, location in job["variants"].items():
        try:
            made[name] = calculator(model, BY_NAME[name], location)
            bench = Bench({name: made[name]}, small)
            for _ in range(JIT_CALLS):
                bench.moved_call(name)
        except Exception as error:  # a family's compile option that does not work here
            made.pop(name, None)
            failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
    return made, failed


def forces_apart(bench: Bench, base: str) -> dict[str, float]:
    """Largest difference of a force component from the base, relative to the largest."""
    want = bench.atoms[base].get_forces()
    size = float(np.abs(want).max())
    return {
        name: float(np.abs(atoms.get_forces() - want).max()) / size
        for name, atoms in bench.atoms.items()
        if name != base
    }


def estimates(variants: Mapping[str, str], atoms: Any, names: Sequence[str]) -> dict[str, float]:
    """Seconds of a call by the cost model, of the graphs in float32, with peaks measured now."""
    import torch

    import irprune
    from irprune.data.neighbours import neighbour_list
    from irprune.latency import estimate
    from irprune.profile.peaks import measure as peaks

    limits, out = peaks(torch.float32), {}
    for name in names:
        variant = BY_NAME[name]
        if variant.kind != "irprune" or variant.dtype != "float32":
            continue
        graph = irprune.load(variants[name], dtype="float32")
        assert graph.atomistic is not None
        edges = neighbour_list(atoms, graph.atomistic.cutoff)[0].shape[1]
        out[name] = estimate(graph, len(atoms), edges, limits)
    return out


def measure(job: Mapping[str, Any]) -> None:
    """One JSON per size, written as it is measured."""
    import torch

    torch.set_num_threads(job["threads"])
    model = MODELS[job["model"]]
    calculators, failed = load(job)
    for problem in job["problems"]:
        atoms = CRYSTALS[model.crystal].supercell(problem["atoms"])
        names = [n for n in problem["variants"] if n in calculators]
        bench = Bench({n: calculators[n] for n in names}, atoms)
        for _ in range(2):
            for name in names:
                bench.moved_call(name)
        times = in_turn(bench.calls, problem["repeats"], bench.move)
        base = names[0]
        estimated = estimates(job["variants"], atoms, names)
        write_json(
            Path(problem["output"]),
            {
                "commit": machine.commit(),
                "base": base,
                "repeats": problem["repeats"],
                "edges_per_atom": round(edges_per_atom(atoms, job["cutoff"]), 3),
                "ratios": {n: paired_ratios(times[n], times[base]) for n in names[1:]},
                "forces": forces_apart(bench, base),
                "rounding": forces_apart(bench, EXACT) if EXACT in names else {},
                "over_estimate": {
                    n: round(statistics.median(times[n]) / s, 3) for n, s in estimated.items()
                },
                "failed": failed,
            },
        )
        shown = ", ".join(
            f"{n} {paired_ratios(times[n], times[base])['median']:.3f}" for n in names[1:]
        )
        print(f"  {model.name} {len(atoms)} atoms, {job['threads']} threads, against {base}: {shown}",
              file=sys.stderr, flush=True)  # fmt: skip


def weigh(job: Mapping[str, Any]) -> None:
    """Peak resident memory of a process that loads one variant and makes one call."""
    import torch

    torch.set_num_threads(job["threads"])
    model = MODELS[job["model"]]
    ((name, location),) = job["variants"].items()
    made = calculator(model, BY_NAME[name], location)
    small = Bench({name: made}, CRYSTALS[model.crystal].supercell(8))
    small.moved_call(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bench = Bench({name: made}, CRYSTALS[model.crystal].supercell(job["atoms"]))
    bench.moved_call(name)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_json(
        Path(job["output"]),
        {"loaded_mib": round(before / 1024), "peak_mib": round(after / 1024)},
    )


def main() -> None:
    """The command line."""
    job = read_json(Path(sys.argv[1]))
    if job.get("peak"):
        weigh(job)
    else:
        measure(job)


if __name__ == "__main__":
    main()
