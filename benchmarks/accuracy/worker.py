"""One arm at one budget and seed: python -m benchmarks.accuracy.worker JOB.json."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.accuracy import cost
from benchmarks.accuracy.config import Arm, Experiment, asked, read
from benchmarks.accuracy.datasets import Parts, parts, shifted
from benchmarks.files import read_json, write_json
from benchmarks.problems import MODELS


def structure(experiment: Experiment, arm: Arm, seed: int, found: Parts) -> tuple[Any, Any, float]:
    """The checkpoint, the model to begin with, and the FLOPs that choosing its blocks took."""
    import irprune
    from irprune.recover.fresh import fresh

    name = arm.model or experiment.model
    original = irprune.load(MODELS[name].location(), trust=True)
    if arm.start == "full":
        return original, original, 0.0
    chosen = irprune.run(arm.prune, original, found.train, seed=seed)
    spent = cost.choosing(arm.prune, original.stats().flops_per_atom, [len(a) for a in found.train])
    if arm.start == "scratch":
        return original, fresh(chosen, seed), 0.0
    return original, chosen, spent


def settings(experiment: Experiment, arm: Arm, steps: int, lr: float) -> Any:
    """Settings of the trainer, the same for all arms but for what the arm says."""
    from irprune.recover.settings import Settings

    return replace(
        Settings(**{**experiment.settings, **arm.settings}), steps=steps, epochs=None, lr=lr
    )


def run(job: Mapping[str, Any]) -> None:
    """Trains and tests; writes the part."""
    import torch

    import irprune
    from irprune.api import potential
    from irprune.evaluate.metrics import evaluate_frames
    from irprune.recover.graphs import recover_graph
    from irprune.recover.runfolder import RunFolder

    torch.set_num_threads(job["threads"])
    experiment = read(Path(job["config"]))
    arm = next(a for a in experiment.arms if a.name == job["arm"])
    seed, steps = job["seed"], job["steps"]
    began = time.monotonic()
    model = irprune.load(MODELS[experiment.model].location(), trust=True)
    assert model.atomistic is not None
    found = parts(experiment.data, model.atomistic, seed)
    shifts: dict[str, float] = {}
    if experiment.data.shift:
        found, shifts = shifted(found, potential(model))
    original, graph, spent = structure(experiment, arm, seed, found)
    stats = graph.stats()
    out: dict[str, Any] = {
        "arm": arm.name,
        "seed": seed,
        "steps": steps,
        "lr": job["lr"],
        "asked": asked(experiment, arm),
        "params": stats.params,
        "flops_per_atom": stats.flops_per_atom,
        "irreps": graph.irreps_per_layer(),
        "n_train": len(found.train),
        "n_valid": len(found.valid),
        "n_test": len(found.test),
        "left_out": found.left_out,
        "shifts": shifts,
    }
    if steps and arm.start != "pruned-raw":
        chosen = settings(experiment, arm, steps, job["lr"])
        folder = RunFolder(Path(job["output"]).with_suffix(""))
        graph, result = recover_graph(
            graph,
            original if arm.teacher else None,
            found.train,
            chosen,
            valid=found.valid,
            seed=seed,
            run=folder,
            resume=True,
        )
        per_atom = sum(len(a) for a in found.train) / len(found.train)
        size = chosen.batch * chosen.accumulate
        spent += cost.training(stats.flops_per_atom, size * per_atom, steps)
        if arm.teacher:
            atoms = sum(len(a) for a in [*found.train, *found.valid])
            spent += cost.labelling(original.stats().flops_per_atom, atoms)
        out["valid_loss"] = min(r.loss for r in result.validation)
        out["validation"] = [[r.step, r.loss] for r in result.validation]
    fast = irprune.optimize(graph, verify=False)
    out["test"] = evaluate_frames(potential(fast), found.test).to_json()
    out["flops"] = spent
    out["seconds"] = round(time.monotonic() - began, 1)
    write_json(Path(job["output"]), out)


if __name__ == "__main__":
    run(read_json(Path(sys.argv[1])))
