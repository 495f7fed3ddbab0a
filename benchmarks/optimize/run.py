"""Times stock and optimized models in turn, in one run.

    python -m benchmarks.optimize.run -o out/optimize

What is in the folder is not done again: files under ``models/``, measurements under ``parts/``.
Checkpoints of MACE are pickles and are loaded as such: run this on checkpoints that you trust.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.files import read_json, write_json
from benchmarks.optimize.report import plot, table
from benchmarks.optimize.variants import (
    BY_NAME,
    COMPILED,
    OPTIMIZED,
    STOCK,
    Variant,
    file_of,
    of_family,
)
from benchmarks.plan import parse_list
from benchmarks.problems import MODELS, ROOT, SIZES, Model
from irprune.devices import processors

NAME = "optimized_vs_stock"
TIMED = (
    "get_potential_energy() and get_forces() of an ase.Atoms; every calculator makes its own"
    " neighbour list and computes the stress as well"
)


WRONG = 1e-3
"""Forces of one function in other kernels or precisions are not further apart, of the largest."""
ENVIRONMENT: dict[str, str] = {}
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2147483647"}
"""What irprune.keep_memory() asks for, for every process."""


def fresh(
    module: str,
    arguments: Sequence[str],
    threads: int,
    check: bool = True,
    patience: float | None = None,
) -> int | None:
    """Runs a module in a fresh process and gives its exit code; None where it took too long (s).

    Raises:
        SystemExit: it failed, unless ``check`` is off.
    """
    counts = {k: str(threads) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = {**os.environ, **counts, **ENVIRONMENT}
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=patience)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode and check:
        raise SystemExit(f"{module} failed with exit code {done.returncode}")
    return done.returncode


def worker(
    job: dict[str, Any],
    check: bool = True,
    module: str = "benchmarks.optimize.worker",
    patience: float | None = None,
) -> int | None:
    """Hands a job to a module in a fresh process, with the threads that the job says."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        path = Path(folder) / "job.json"
        write_json(path, job)
        return fresh(module, [str(path)], job["threads"], check, patience)


def processes(options: argparse.Namespace, model: Model) -> dict[str, list[Variant]]:
    """What is timed in one process, by the end of its parts' names.

    A compiled variant has a process of its own, beside stock and optimized: what MACE's compile option
    does to e3nn is there for the whole process.
    """
    found = of_family(model.family)
    out = {"": [v for v in found if not v.compile]}
    for v in found if options.compile else ():
        if v.compile:
            beside = [BY_NAME[STOCK], *([BY_NAME[OPTIMIZED]] if v.kind == "irprune" else [])]
            out[f"-{v.name.replace(', ', '-').replace(' ', '-')}"] = [*beside, v]
    return out


def problems(
    options: argparse.Namespace, model: Model, threads: int, end: str, variants: Sequence[Variant]
) -> list[dict[str, Any]]:
    """The sizes that have not been measured."""
    out = []
    names = [v.name for v in variants]
    for n in options.atoms:
        path = options.output / "parts" / f"{model.name}-{n}-{threads}{end}.json"
        # stock calculators only where they fit into memory and patience
        chosen = names if n <= options.stock_atoms else [x for x in names if "stock" not in x]
        repeats = options.repeats if n < 1000 else max(2, options.repeats // 2)
        if n > 1000:
            chosen, repeats = [x for x in chosen if "64" not in x], 2
        if end and n not in options.compile_atoms:
            continue
        if not path.is_file():
            out.append({"atoms": n, "variants": chosen, "repeats": repeats, "output": str(path)})
    return out


def measure(options: argparse.Namespace) -> None:
    """Times, then weighs."""
    folder = options.output / "models"
    for model in (MODELS[m] for m in options.models):
        fresh("benchmarks.optimize.variants", [model.name, "-o", str(folder)], processors())
        files = {v.name: file_of(model, v, folder) for v in of_family(model.family)}
        cutoff = read_json(folder / f"{model.name}.json")["cutoff"]
        for threads in options.threads:
            for end, variants in processes(options, model).items():
                left = problems(options, model, threads, end, variants)
                if not left:
                    continue
                job = {"model": model.name, "threads": threads, "cutoff": cutoff, "problems": left}
                job["variants"] = {v.name: files[v.name] for v in variants}
                if worker(job, patience=60 * options.patience if end else None) is None:
                    give_up(left, variants[-1], options.patience)
        for n in options.atoms:
            for name in (STOCK, OPTIMIZED, "optimized, keep 0.5"):
                path = options.output / "peaks" / f"{model.name}-{n}-{name}.json"
                if path.is_file() or (name == STOCK and n > options.stock_atoms):
                    continue
                job = {"model": model.name, "threads": 1, "variants": {name: files[name]}}
                worker({**job, "peak": True, "atoms": n, "output": str(path)}, check=False)


def give_up(left: Sequence[Mapping[str, Any]], variant: Variant, minutes: float) -> None:
    """Writes that a compiled variant took too long, for the sizes that it did not come to."""
    for problem in left:
        path = Path(problem["output"])
        if not path.is_file():
            why = f"not done after {minutes:g} minutes"
            write_json(path, {"ratios": {}, "forces": {}, "failed": {variant.name: why}})


def merged(folder: Path, stem: str, ends: Sequence[str]) -> dict[str, Any]:
    """A part, and what the processes of compiled variants found: of each the last variant alone."""
    part = read_json(folder / f"{stem}.json")
    if not part:
        return {}
    for end in ends:
        extra = read_json(folder / f"{stem}{end}.json") or {
            "ratios": {},
            "forces": {},
            "failed": {},
        }
        for key in ("ratios", "forces"):
            names = [n for n in extra[key] if n not in (STOCK, OPTIMIZED)]
            part[key].update({n: extra[key][n] for n in names})
        if OPTIMIZED in extra["ratios"] and COMPILED in extra["ratios"]:
            ours = (extra["ratios"][n]["median"] for n in (COMPILED, OPTIMIZED))
            part["compiled_over_optimized"] = round(next(ours) / next(ours), 3)
        part["failed"].update(extra["failed"])
        if "commit" in extra and extra["commit"] != part["commit"]:
            part.setdefault("commits", {}).update(dict.fromkeys(names, extra["commit"]))
    return without_wrong(part)


def without_wrong(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part without times of variants that compute something else than the model says."""
    wrong = {
        n: f"forces are off by {apart:.2g} of the largest"
        for n, apart in part["forces"].items()
        if apart > WRONG and not BY_NAME[n].pruned
    }
    ratios = {n: r for n, r in part["ratios"].items() if n not in wrong}
    return {**part, "ratios": ratios, "failed": {**part["failed"], **wrong}}


def gather(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """The result: everything in the folder that belongs to the choices.

    With ``--gather`` nothing is measured, and what is not there is left out: a result of several runs.
    """
    models, results = {}, []
    for name in options.models:
        facts = read_json(options.output / "models" / f"{name}.json")
        models[name] = {"crystal": MODELS[name].crystal, **facts}
        for n in options.atoms:
            peaks = {
                v: read_json(options.output / "peaks" / f"{name}-{n}-{v}.json")
                for v in (STOCK, OPTIMIZED, "optimized, keep 0.5")
            }
            for threads in options.threads:
                ends = [e for e in processes(options, MODELS[name]) if e]
                part = merged(options.output / "parts", f"{name}-{n}-{threads}", ends)
                if not part:
                    continue
                found = {"model": name, "atoms": n, "threads": threads, **part}
                results.append(found | {"peak": {k: v for k, v in peaks.items() if v}})
    return {
        **machine.stamp(NAME, command),
        "timed": TIMED,
        "environment": dict(ENVIRONMENT),
        "models": models,
        "results": results,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimize.run", description=__doc__)
    parser.add_argument("--models", default="mace-mp-0-small,7net-0,7net-l3i5")
    parser.add_argument("--atoms", default="8,64,216,1000,8000")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--repeats", type=int, default=5, help="rounds up to 216 atoms")
    parser.add_argument("--stock-atoms", type=int, default=216, help="stock calculators up to here")
    parser.add_argument("--compile", action="store_true", help="MACE's compile_mode, and our pass")
    parser.add_argument("--compile-atoms", default="64,216", help="sizes for --compile")
    parser.add_argument(
        "--patience", type=float, default=10, help="minutes for a process that compiles"
    )
    parser.add_argument(
        "--keep-memory", action="store_true", help="as irprune.keep_memory, for all"
    )
    parser.add_argument("--passive", action="store_true", help="threads sleep while they wait")
    parser.add_argument("--gather", action="store_true", help="only gather what was measured")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    try:
        options.models = parse_list(options.models, str, list(MODELS))
        options.atoms = parse_list(options.atoms, int, SIZES)
        options.compile_atoms = parse_list(options.compile_atoms, int, SIZES)
        options.threads = parse_list(options.threads, int, range(1, 257))
    except ValueError as error:
        parser.error(str(error))
    options.output = options.output.resolve()
    ENVIRONMENT.update(KEPT if options.keep_memory else {})
    ENVIRONMENT.update(PASSIVE if options.passive else {})
    if not options.gather:
        measure(options)
    shown = [a for a in sys.argv[1:] if not a.startswith("/")]
    result = gather(options, " ".join(["python -m benchmarks.optimize.run", *shown]))
    path = options.output / f"{NAME}.json"
    write_json(path, result)
    plot(result, path.with_suffix(""))
    print(table(result))


if __name__ == "__main__":
    main()
