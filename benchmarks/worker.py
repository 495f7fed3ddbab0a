"""Times the variants of one model in a fresh process: python -m benchmarks.worker JOB.json.

Does not import irprune: the files are loaded as a user of the family loads them. With ``probe`` in
the job nothing is compared: one call of the original is timed to estimate how long the run takes.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from benchmarks.files import read_json, write_json
from benchmarks.problems import CRYSTALS
from benchmarks.timing import in_turn, paired_ratios, seconds, settle

MOVE = 0.002
"""Å. How far atoms are moved before each round, so that nothing can be taken from a cache."""
JIT_CALLS = 3
"""Calls on the smallest crystal first: TorchScript specializes there at little cost."""


def make_calculator(family: str, location: str) -> Any:
    """The family's own stock calculator, on the CPU in float32.

    Raises:
        ValueError: an unknown family.
    """
    warnings.simplefilter("ignore")
    import torch

    torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4 needs it on torch ≥ 2.6
    if family == "sevennet":
        from sevenn.calculator import SevenNetCalculator

        return SevenNetCalculator(location, device="cpu")
    if family == "mace":
        from mace.calculators import MACECalculator

        return MACECalculator(model_paths=location, device="cpu", default_dtype="float32")
    raise ValueError(f"unknown family {family!r}")


def energy_and_forces(atoms: Atoms) -> None:
    """What is timed. The forces come from the calculation that gave the energy."""
    atoms.get_potential_energy()
    atoms.get_forces()


class Bench:
    """One structure per variant: the same atoms, each with its own calculator."""

    def __init__(self, calculators: Mapping[str, Any], start: Atoms) -> None:
        self.start = start
        self.rng = np.random.default_rng(1)
        self.atoms = {name: start.copy() for name in calculators}
        for name, calculator in calculators.items():
            self.atoms[name].calc = calculator
        self.calls = {n: partial(energy_and_forces, a) for n, a in self.atoms.items()}

    def move(self, _: int = 0) -> None:
        """Moves all copies alike, from where the crystal started."""
        shift = self.rng.uniform(-MOVE, MOVE, self.start.positions.shape)
        for atoms in self.atoms.values():
            atoms.positions = self.start.positions + shift

    def moved_call(self, name: str) -> None:
        self.move()
        self.calls[name]()

    def settle(self) -> dict[str, int]:
        """Warm-up calls made on each variant."""
        return {n: settle(partial(self.moved_call, n)) for n in self.calls}


def edges_per_atom(atoms: Atoms, cutoff: float) -> float:
    """Neighbours within the cutoff, both directions counted."""
    return len(neighbor_list("i", atoms, cutoff)) / len(atoms)


def measure(
    calculators: Mapping[str, Any], atoms: Atoms, repeats: int, cutoff: float
) -> dict[str, Any]:
    """Warm-up, rounds, ratios against the variant that is named first."""
    bench = Bench(calculators, atoms)
    warmup = bench.settle()
    times = in_turn(bench.calls, repeats, bench.move)
    original, *others = times
    return {
        "edges_per_atom": round(edges_per_atom(atoms, cutoff), 3),
        "warmup": max(warmup.values()),
        "repeats": repeats,
        "ratios": {name: paired_ratios(times[name], times[original]) for name in others},
    }


def parameters(calculator: Any) -> int:
    """Parameters of the module that the calculator runs: shows which model was timed."""
    models = getattr(calculator, "models", None)
    model = models[0] if models else calculator.model
    return sum(p.numel() for p in model.parameters())


def run_job(job: Mapping[str, Any]) -> None:
    """Writes one JSON per problem as it is measured."""
    import torch

    torch.set_num_threads(job["threads"])
    crystal = CRYSTALS[job["crystal"]]
    calculators = {v: make_calculator(job["family"], f) for v, f in job["variants"].items()}
    counts = {name: parameters(c) for name, c in calculators.items()}
    small = Bench(calculators, crystal.supercell(8))
    for _ in range(JIT_CALLS):
        for name in small.calls:
            small.moved_call(name)
    for problem in job["problems"]:
        atoms = crystal.supercell(problem["atoms"])
        result = measure(calculators, atoms, job["repeats"], job["cutoff"])
        result |= {"loaded_parameters": counts, "torch_threads": torch.get_num_threads()}
        write_json(Path(problem["output"]), result | {"key": problem["key"]})
        print(f"  {job['model']} {len(atoms)} atoms {job['threads']} threads: "
              + ", ".join(f"{n} {r['median']:.2f}" for n, r in result["ratios"].items()),
              file=sys.stderr, flush=True)  # fmt: skip


def run_probe(job: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds to load the original, and per call and edge for each thread count."""
    import torch

    start = time.perf_counter()
    location = next(iter(job["variants"].values()))
    calculators = {"original": make_calculator(job["family"], location)}
    load = time.perf_counter() - start
    crystal = CRYSTALS[job["crystal"]]
    small = Bench(calculators, crystal.supercell(8))
    for _ in range(JIT_CALLS):
        small.moved_call("original")
    atoms = crystal.supercell(job["atoms"])
    bench = Bench(calculators, atoms)
    edges = edges_per_atom(atoms, job["cutoff"]) * len(atoms)
    per_edge = {}
    for threads in job["probe"]:
        torch.set_num_threads(threads)
        bench.moved_call("original")
        bench.move()
        per_edge[str(threads)] = seconds(bench.calls["original"]) / edges
    return {"load": load, "per_edge": per_edge}


def main() -> None:
    """The command line; a probe's result goes to stdout."""
    job = read_json(Path(sys.argv[1]))
    if "probe" in job:
        result = run_probe(job)
        print(json.dumps(result))
    else:
        run_job(job)


if __name__ == "__main__":
    main()
