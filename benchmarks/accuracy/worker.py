"""Arms with one seed and one structure: python -m benchmarks.accuracy.worker JOBS.json."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.accuracy import cost
from benchmarks.accuracy.config import Arm, Experiment, asked, read
from benchmarks.accuracy.datasets import Parts, moved_by, parts, shifted, shifts, told_by
from benchmarks.files import read_json, write_json
from benchmarks.problems import MODELS


def structure(config: Path, base: str, arm: Arm, seed: int) -> tuple[Any, Any, float]:
    """The checkpoint, the model to begin with, and the FLOPs that choosing its blocks took.

    ``base`` is where the experiment's checkpoint lies.
    """
    from irprune.recover.fresh import fresh

    location = MODELS[arm.model].location() if arm.model else base
    original = checkpoint(location)
    if arm.start == "full":
        return original, original, 0.0
    graph = chosen(config, base, location, arm.prune, seed)
    if arm.start == "scratch":
        return original, fresh(graph, seed), 0.0
    sizes = [len(a) for a in data(config, base, seed)[0].train]
    spent = cost.choosing(arm.prune, original.stats().flops_per_atom, sizes)
    return original, graph, spent


def settings(experiment: Experiment, arm: Arm, steps: int, lr: float) -> Any:
    """Settings of the trainer, the same for all arms but for what the arm says."""
    from irprune.recover.settings import Settings

    return replace(
        Settings(**{**experiment.settings, **arm.settings}), steps=steps, epochs=None, lr=lr
    )


@functools.cache
def checkpoint(location: str) -> Any:
    """A checkpoint, once per process."""
    import irprune

    return irprune.load(location, trust=True)


@functools.cache
def data(config: Path, base: str, seed: int) -> tuple[Parts, dict[int, float]]:
    """The parts of an experiment and what was taken out of their energies, once per process."""
    import irprune
    from irprune.api import potential

    experiment = read(config)
    original = checkpoint(base)
    assert original.atomistic is not None
    found = parts(experiment.data, original.atomistic, seed)
    model = potential(irprune.optimize(original, verify=False))
    if experiment.data.rattle:
        found = told_by(model, found, experiment.data.rattle, seed)
    return shifted(found, model) if experiment.data.shift == "all" else (found, {})


@functools.cache
def chosen(config: Path, base: str, location: str, prune: str, seed: int) -> Any:
    """A checkpoint after a pipeline, once per process."""
    import irprune

    return irprune.run(prune, checkpoint(location), data(config, base, seed)[0].train, seed=seed)


def run(job: Mapping[str, Any]) -> None:
    """Trains and tests; writes the part."""
    import torch

    import irprune
    from irprune.api import potential
    from irprune.evaluation.metrics import evaluate_frames
    from irprune.recover.graphs import recover_graph
    from irprune.recover.runfolder import RunFolder

    torch.set_num_threads(job["threads"])
    config, base = Path(job["config"]), job["base"]
    experiment = read(config)
    arm = next(a for a in experiment.arms if a.name == job["arm"])
    seed, steps = job["seed"], job["steps"]
    began = time.monotonic()
    found, taken = data(config, base, seed)
    original, graph, spent = structure(config, base, arm, seed)
    stats = graph.stats()
    out: dict[str, Any] = {
        "arm": arm.name,
        "seed": seed,
        "steps": steps,
        "lr": job["lr"],
        "asked": asked(experiment, arm),
        "commit": machine.commit(),
        "params": stats.params,
        "flops_per_atom": stats.flops_per_atom,
        "irreps": graph.irreps_per_layer(),
        "n_train": len(found.train),
        "n_valid": len(found.valid),
        "n_test": len(found.test),
        "left_out": found.left_out,
        "shifts": {str(z): round(v, 6) for z, v in taken.items()},
    }

    def tested(graph: Any) -> dict[str, Any]:
        fast = potential(irprune.optimize(graph, verify=False))
        own = experiment.data.shift == "test"
        test = moved_by(found.test, shifts(fast, found.reference)) if own else found.test
        return evaluate_frames(fast, test).to_json()

    if steps and arm.start == "pruned":
        out["before"], out["flops_chosen"] = tested(graph), spent
    if steps and arm.start != "pruned-raw":
        options = settings(experiment, arm, steps, job["lr"])
        folder = RunFolder(Path(job["output"]).with_suffix(""))
        graph, result = recover_graph(
            graph,
            original if arm.teacher else None,
            found.train,
            options,
            valid=found.valid,
            seed=seed,
            run=folder,
            resume=True,
        )
        per_atom = sum(len(a) for a in found.train) / len(found.train)
        size = options.batch * options.accumulate
        spent += cost.training(stats.flops_per_atom, size * per_atom, steps)
        if arm.teacher:
            atoms = sum(len(a) for a in [*found.train, *found.valid])
            spent += cost.labelling(original.stats().flops_per_atom, atoms)
        out["valid_loss"] = min(r.loss for r in result.validation)
        out["validation"] = [[r.step, r.loss] for r in result.validation]
    out["test"] = tested(graph)
    out["flops"] = spent
    out["seconds"] = round(time.monotonic() - began, 1)
    write_json(Path(job["output"]), out)


if __name__ == "__main__":
    for one in read_json(Path(sys.argv[1])):
        if time.time() < one["until"]:
            run(one)
            print(f"  {Path(one['output']).stem}", file=sys.stderr, flush=True)
