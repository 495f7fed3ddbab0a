"""Times original and pruned models in turn, in one run, where users run them.

    python -m benchmarks.pruned_vs_original -o out/benchmark

What is done already in the output folder is not done again: model files under ``pruned/``, one
measurement per (model, atoms, threads) under ``parts/``. Checkpoints of MACE are pickles and are
loaded as such: run this on checkpoints that you trust.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.files import read_json, write_json
from benchmarks.plan import Plan, choose_repeats, fixed_and_per_round, parse_list
from benchmarks.prepare import ORIGINAL, SEED
from benchmarks.problems import MODELS, RATTLE, ROOT, SIZES, Model
from benchmarks.schema import SCHEMA, problems_of
from benchmarks.timing import quartiles
from benchmarks.worker import MOVE
from irprune.devices import processors

NAME = "pruned_vs_original"
TIMED = (
    "get_potential_energy() and get_forces() of an ase.Atoms with the family's own stock calculator"
    " (SevenNetCalculator, MACECalculator), for the original checkpoint and for the exported files;"
    " includes the calculator's neighbour list and the stress, which both calculators always make"
)


def module(name: str, arguments: Sequence[str], threads: int, capture: bool = False) -> str:
    """Runs a module of this package in a fresh process.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", *arguments]
    counts = {k: str(threads) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    out = subprocess.PIPE if capture else None
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **counts}, stdout=out, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"benchmarks.{name} failed with exit code {done.returncode}")
    return done.stdout or ""


def worker(job: Mapping[str, Any], threads: int, capture: bool = False) -> str:
    """Hands a job to a fresh process."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        path = Path(folder) / "job.json"
        write_json(path, job)
        return module("worker", [str(path)], threads, capture)


def prepare(plan: Plan) -> None:
    """Makes the model files that are not there."""
    keeps = ",".join(f"{k:g}" for k in plan.keeps)
    for name in plan.models:
        arguments = [name, "--keep", keeps, "-o", str(plan.pruned)]
        module("prepare", arguments, processors())


def probe(plan: Plan) -> dict[str, Any]:
    """What loading and one call of each original cost, on the smallest crystal asked for."""
    found = {}
    for model in {m.name: m for m, _, _ in plan.groups()}.values():
        log(f"probe {model.name}")
        job = plan.job(model, 1) | {"probe": plan.threads, "atoms": min(plan.atoms)}
        lines = worker(job, max(plan.threads), capture=True).strip().splitlines()
        found[model.name] = json.loads(lines[-1])
    return found


def measure(plan: Plan, repeats: int) -> None:
    """Runs what is left, one process per model and thread count."""
    groups = plan.groups()
    session = plan.folder / "session.json"
    start = (read_json(session) or {}).get("start") or machine.load_average()
    for i, (model, threads, sizes) in enumerate(groups):
        log(f"[{i + 1}/{len(groups)}] {model.name}, {threads} threads, {repeats} rounds")
        problems = [
            {
                "atoms": n,
                "output": str(plan.part(model.name, n, threads)),
                "key": plan.key(model),
            }
            for n in sizes
        ]
        worker(plan.job(model, threads) | {"repeats": repeats, "problems": problems}, threads)
        end = {"start": start, "end": machine.load_average(), "date": machine.today()}
        write_json(session, end)


def gather(plan: Plan, command: str) -> dict[str, Any]:
    """The result file: everything in the folder that belongs to the plan."""
    from irprune.versions import versions

    models = [MODELS[m] for m in plan.models]
    session = read_json(plan.folder / "session.json")
    return {
        "schema": SCHEMA,
        "benchmark": NAME,
        "date": session["date"],
        "commit": machine.commit(),
        "command": command,
        "machine": machine.machine(),
        "load_average": {"start": session["start"], "end": session["end"]},
        "versions": versions(),
        "settings": {
            "timed": TIMED,
            "dtype": "float32",
            "device": "cpu",
            "rattle": RATTLE,
            "move": MOVE,
            "seed": SEED,
        },
        "models": {m.name: _model(plan, m) for m in models},
        "results": [
            _result(plan, m, n, t) for m in models for n in plan.atoms for t in plan.threads
        ],
    }


def _model(plan: Plan, model: Model) -> dict[str, Any]:
    facts = plan.facts(model)
    kept = ("keep", "recipe", "commit", "tier", "checks", "params", "blocks", "irreps")
    variants = {
        v: {k: f[k] for k in kept}
        | {"params_ratio": round(f["params"] / facts[ORIGINAL]["params"], 4)}
        for v, f in facts.items()
    }
    checkpoint = facts[ORIGINAL]["checkpoint"]
    return {"crystal": model.crystal, "checkpoint": checkpoint, "variants": variants}


def _result(plan: Plan, model: Model, atoms: int, threads: int) -> dict[str, Any]:
    part, facts = read_json(plan.part(model.name, atoms, threads)), plan.facts(model)
    edges = part["edges_per_atom"]
    flops = {v: f["flops_node"] + edges * f["flops_edge"] for v, f in facts.items()}
    timed = []
    for variant, found in part["ratios"].items():
        q1, median, q3 = (round(q, 4) for q in quartiles(found["ratios"]))
        row = {"variant": variant, "keep": facts[variant]["keep"]}
        row |= {"flops_per_atom": round(flops[variant])}
        row |= {"flops_ratio": round(flops[variant] / flops[ORIGINAL], 4)}
        timed.append(row | {"median": median, "q1": q1, "q3": q3, "ratios": found["ratios"]})
    return {
        "model": model.name,
        "crystal": model.crystal,
        "atoms": atoms,
        "threads": threads,
        "edges_per_atom": edges,
        "warmup": part["warmup"],
        "repeats": part["repeats"],
        "variants": timed,
    }


def log(message: str) -> None:
    """Progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--atoms", default="64,216")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--keep", default="0.75,0.5,0.25")
    parser.add_argument("--repeats", type=int, help="rounds; default: what fits into --minutes")
    parser.add_argument("--minutes", type=float, default=12.0, help="for probe and timing")
    parser.add_argument("--prepare-only", action="store_true", help="make the model files, stop")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        options.plan = Plan(
            parse_list(options.models, str, list(MODELS)),
            parse_list(options.atoms, int, SIZES),
            parse_list(options.threads, int, range(1, 257)),
            parse_list(options.keep, float),
            options.output.resolve(),
        )
    except ValueError as error:
        parser.error(str(error))
    if not all(0 < k < 1 for k in options.plan.keeps):
        parser.error("keep must be between 0 and 1")
    if options.repeats is not None and options.repeats < 1:
        parser.error("repeats must be 1 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepares, estimates, measures, gathers, plots."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(given)
    plan: Plan = options.plan
    prepare(plan)
    if options.prepare_only:
        return
    if plan.groups():
        start = time.perf_counter()
        fixed, one_round = fixed_and_per_round(plan, probe(plan))
        fixed += time.perf_counter() - start
        repeats = options.repeats or choose_repeats(fixed, one_round, options.minutes)
        total = fixed + repeats * one_round
        load = machine.load_average()[0]
        log(f"load average {load}; {repeats} rounds, about {total / 60:.1f} minutes in all")
        measure(plan, repeats)
    shown = " ".join(_no_folder(a) for a in given)
    result = gather(plan, f"python -m benchmarks.{NAME} {shown}".strip())
    wrong = problems_of(result)
    if wrong:
        raise SystemExit("the result is not what its schema says: " + "; ".join(wrong))
    path = plan.folder / f"{NAME}.json"
    write_json(path, result)
    from benchmarks.plot import plot
    from benchmarks.table import table

    plot(result, path.with_suffix(""))
    print(table(result))


def _no_folder(argument: str) -> str:
    """Absolute paths say nothing about the measurement: only the last part is kept."""
    path = Path(argument)
    return path.name if path.is_absolute() else argument


if __name__ == "__main__":
    main()
