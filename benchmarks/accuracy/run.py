"""Runs an experiment, part by part: python -m benchmarks.accuracy.run CONFIG.yaml -o out/accuracy.

What is in the folder is not done again, and a part that was killed goes on where it stood.
Checkpoints of MACE are pickles and are loaded as such: run this on checkpoints that you trust.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.accuracy.config import Arm, Experiment, asked, made_of, read
from benchmarks.accuracy.picture import plot
from benchmarks.accuracy.report import published
from benchmarks.files import read_json, write_json
from benchmarks.problems import MODELS, ROOT
from irprune.devices import processors

WORKER = "benchmarks.accuracy.worker"
PRETRAIN = "benchmarks.accuracy.pretrain"


def part(folder: Path, arm: Arm, steps: int, seed: int, lr: float) -> Path:
    """Where one measurement lies."""
    safe = arm.name.replace(" ", "-").replace("/", "-")
    return folder / f"{safe}-{steps}-{seed}-{lr:g}.json"


def jobs_of(
    experiment: Experiment, folder: Path, seeds: tuple[int, ...]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What tunes learning rates, and what is measured with the rates that are known by now.

    Rates are tuned for every budget by itself: what suits a short training may not suit a long one.
    """
    tune, rest = [], []
    check_parts(experiment, folder)
    for arm in experiment.arms:
        for steps in arm.budgets(experiment.steps):
            first = (steps, experiment.seeds[0])
            tried = [part(folder, arm, *first, lr) for lr in arm.lr]
            best = arm.lr[0]
            if len(arm.lr) > 1:
                tune += [_job(arm, *first, lr, p) for lr, p in zip(arm.lr, tried, strict=True)]
                losses = [(read_json(p) or {}).get("valid_loss") for p in tried]
                if None in losses:
                    continue
                best = arm.lr[min(range(len(losses)), key=losses.__getitem__)]
            for seed in seeds:
                rest.append(_job(arm, steps, seed, best, part(folder, arm, steps, seed, best)))
    return tune, rest


def check_parts(experiment: Experiment, folder: Path) -> None:
    """Refuses a folder with parts that another version of the experiment measured.

    Raises:
        SystemExit: names the parts.
    """
    now = {arm.name: asked(experiment, arm) for arm in experiment.arms}
    other = []
    for path in sorted(folder.glob("*.json")):
        found = read_json(path) or {}
        if found.get("asked") not in (None, now.get(found.get("arm"))):
            other.append(path.name)
    if other:
        raise SystemExit(
            f"{folder} has parts of another version of {experiment.name}: {', '.join(other)};"
            " delete them with their run folders, or give another folder"
        )


def _job(arm: Arm, steps: int, seed: int, lr: float, path: Path) -> dict[str, Any]:
    same = f"{arm.model} {arm.prune}"
    return {"arm": arm.name, "steps": steps, "seed": seed, "lr": lr, "structure": same,
            "output": str(path)}  # fmt: skip


def made(experiment: Experiment, folder: Path) -> Path:
    """Where the model lies that an experiment trains for itself."""
    return folder.parent / "models" / f"{experiment.model}-{made_of(experiment)}.model"


def base_of(experiment: Experiment, config: Path, folder: Path) -> str:
    """Where the checkpoint lies; trains it where the experiment says so and it is not there.

    Raises:
        SystemExit: the training failed.
    """
    if experiment.pretrain is None:
        return MODELS[experiment.model].location()
    path = made(experiment, folder)
    if not path.with_suffix(".json").is_file():
        steps = experiment.pretrain.steps
        print(f"training {experiment.model}, {steps} steps", file=sys.stderr, flush=True)
        command = [sys.executable, "-W", "ignore", "-m", PRETRAIN, str(config), str(path)]
        if subprocess.run(command, cwd=ROOT, env=one_thread(), check=False).returncode:
            raise SystemExit(f"training {experiment.model} failed; see above")
    return str(path)


def one_thread() -> dict[str, str]:
    """The environment of processes of which several run at once."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def do(
    jobs: list[dict[str, Any]], config: Path, base: str, processes: int, deadline: float
) -> bool:
    """Runs what is not there, several processes with one thread each; whether all is there."""
    left = [j for j in jobs if not Path(j["output"]).is_file()]
    print(f"{len(jobs) - len(left)} of {len(jobs)} parts are there", file=sys.stderr, flush=True)

    def together(group: list[dict[str, Any]]) -> int:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            path = Path(folder) / "jobs.json"
            common = {"config": str(config), "base": base, "threads": 1, "until": deadline}
            write_json(path, [{**job, **common} for job in group])
            command = [sys.executable, "-W", "ignore", "-m", WORKER, str(path)]
            return subprocess.run(command, cwd=ROOT, env=one_thread(), check=False).returncode

    with ThreadPoolExecutor(processes) as pool:
        codes = list(pool.map(together, grouped(left)))
    if any(codes):
        raise SystemExit("a part failed; see above")
    return all(Path(j["output"]).is_file() for j in jobs)


def grouped(jobs: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Jobs of one seed and structure, which one process makes once, in the order of their seeds."""
    out: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for job in jobs:
        out.setdefault((job["seed"], job["structure"]), []).append(job)
    return [out[key] for key in sorted(out, key=lambda key: key[0])]


def told(experiment: Experiment, seeds: tuple[int, ...]) -> str:
    """What is about to be spent."""
    budgets = {a.name: a.budgets(experiment.steps) for a in experiment.arms}
    total = sum(map(sum, budgets.values())) * len(seeds)
    total += sum(len(a.lr) * sum(budgets[a.name]) for a in experiment.arms if len(a.lr) > 1)
    first = f", {experiment.pretrain.steps} more for the checkpoint" if experiment.pretrain else ""
    return (
        f"{experiment.name}: {len(budgets)} arms, seeds {list(seeds)}, at most {total} steps of"
        f" {experiment.settings.get('batch', 8)} structures{first}"
    )


def gather(experiment: Experiment, folder: Path, command: str) -> dict[str, Any]:
    """The result: everything in the folder that belongs to the experiment."""
    _, jobs = jobs_of(experiment, folder, experiment.seeds)
    found = [read_json(Path(j["output"])) for j in jobs]
    return {
        **machine.stamp(f"accuracy/{experiment.name}", command),
        "question": experiment.question,
        "model": experiment.model,
        "against": experiment.against,
        "data": vars(experiment.data),
        "settings": dict(experiment.settings),
        "pretraining": read_json(made(experiment, folder).with_suffix(".json"))
        if experiment.pretrain
        else None,
        "arms": arms_of(experiment),
        "results": [r for r in found if r],
    }


def arms_of(experiment: Experiment) -> list[dict[str, Any]]:
    """The arms, as a result has them."""
    return [{**vars(a), "settings": dict(a.settings)} for a in experiment.arms]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.run", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", help="some of those of the config, such as 0")
    parser.add_argument("--jobs", type=int, default=processors(), help="processes at once")
    parser.add_argument("--minutes", type=float, default=1e9, help="start nothing after that")
    parser.add_argument("--plan", action="store_true", help="print the cost and stop")
    parser.add_argument("--gather", action="store_true", help="only gather what was measured")
    options = parser.parse_args()
    experiment = read(options.config)
    seeds = tuple(int(s) for s in options.seeds.split(",")) if options.seeds else experiment.seeds
    folder = options.output.resolve() / experiment.name
    print(told(experiment, seeds), file=sys.stderr)
    if options.plan:
        return
    deadline = time.time() + 60 * options.minutes
    if not options.gather:
        config = options.config.resolve()
        how = (config, base_of(experiment, config, folder), options.jobs, deadline)
        if do(jobs_of(experiment, folder, seeds)[0], *how):
            do(jobs_of(experiment, folder, seeds)[1], *how)
    command = f"python -m benchmarks.accuracy.run {options.config.name}"
    result = gather(experiment, folder, command)
    path = folder.with_suffix(".json")
    write_json(path, result)
    plot(result, path.with_suffix(""))
    print(published(result))


if __name__ == "__main__":
    main()
