"""A MACE trained on an experiment's data, to have one to prune where no checkpoint is to be had.

    python -m benchmarks.accuracy.pretrain CONFIG.yaml OUT.model

Trained with the trainer and the settings of the experiment, on the structures of its first seed. What
it took lies beside the model as JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from benchmarks import machine
from benchmarks.accuracy import cost
from benchmarks.accuracy.config import Experiment, Pretraining, read
from benchmarks.accuracy.datasets import data_file, parts
from benchmarks.files import write_json
from irprune.atomistic import Atomistic
from irprune.data.frames import labels_of, read_frames
from irprune.data.neighbours import neighbour_list


def make(experiment: Experiment, path: Path) -> None:
    """Trains and writes the model, the family's own file, and what it took."""
    import irprune
    from irprune.api import potential
    from irprune.evaluation.metrics import evaluate_frames
    from irprune.export import export
    from irprune.families.mace.family import MaceFamily
    from irprune.families.mace.load import wrap
    from irprune.families.trace import trace_family
    from irprune.recover.graphs import recover_graph
    from irprune.recover.runfolder import RunFolder
    from irprune.recover.settings import Settings

    plan, seed, began = experiment.pretrain, experiment.seeds[0], time.monotonic()
    assert plan is not None
    elements = elements_of(experiment)
    found = parts(experiment.data, Atomistic("mace", plan.cutoff, elements), seed)
    torch.manual_seed(seed)
    module = untrained(plan, elements, [*found.train, *found.valid])
    begin = trace_family(MaceFamily(), wrap(module, str(path)))
    options = replace(Settings(**experiment.settings), steps=plan.steps, epochs=None, lr=plan.lr)
    run = RunFolder(path.with_suffix(""))
    graph, result = recover_graph(
        begin, None, found.train, options, valid=found.valid, seed=seed, run=run, resume=True
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    export(graph, path, "native:mace")
    stats = graph.stats()
    atoms = sum(map(len, found.train)) / len(found.train)
    fast = potential(irprune.optimize(graph, verify=False))
    write_json(
        path.with_suffix(".json"),
        {
            "commit": machine.commit(),
            "hidden": plan.hidden,
            "params": stats.params,
            "flops_per_atom": stats.flops_per_atom,
            "steps": plan.steps,
            "lr": plan.lr,
            "flops": cost.training(stats.flops_per_atom, options.batch * atoms, plan.steps),
            "validation": [[r.step, r.loss] for r in result.validation],
            "test": evaluate_frames(fast, found.test).to_json(),
            "seconds": round(time.monotonic() - began, 1),
        },
    )


def elements_of(experiment: Experiment) -> tuple[int, ...]:
    """Atomic numbers in the data set, ascending."""
    frames = read_frames(data_file(experiment.data.file))
    return tuple(sorted({int(z) for a in frames for z in a.numbers}))


def untrained(
    plan: Pretraining, elements: Sequence[int], frames: Sequence[Atoms]
) -> torch.nn.Module:
    """mace's ScaleShiftMACE in float32, with energies of atoms and scales from labelled structures."""
    from irprune.families.mace.library import import_mace

    modules, o3 = import_mace(), import_mace("e3nn.o3")
    labels = [labels_of(a) for a in frames]
    counts = np.array([[np.sum(a.numbers == z) for z in elements] for a in frames], float)
    energies = np.linalg.lstsq(counts, np.array([x.energy for x in labels]), rcond=None)[0]
    forces = np.concatenate([x.forces for x in labels if x.forces is not None])
    pairs = sum(neighbour_list(a, plan.cutoff)[0].shape[1] for a in frames)
    interactions = modules.interaction_classes
    made: torch.nn.Module = modules.ScaleShiftMACE(
        r_max=plan.cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=plan.max_ell,
        interaction_cls=interactions["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=interactions["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps(plan.hidden),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=energies,
        avg_num_neighbors=pairs / sum(map(len, frames)),
        atomic_numbers=list(elements),
        correlation=plan.correlation,
        gate=torch.nn.functional.silu,
        radial_MLP=list(plan.radial),
        atomic_inter_scale=float(np.sqrt((forces**2).mean())),
        atomic_inter_shift=0.0,
    )
    return made.float()


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    config, path = map(Path, arguments)
    torch.set_num_threads(1)
    make(read(config), path)


if __name__ == "__main__":
    main(sys.argv[1:])
