"""The command line of the GPU benchmarks: options, and one stage after another."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gpu import stages
from benchmarks.gpu.ahead import compile_ahead, name_of
from benchmarks.gpu.device import Budget, Device, NoGpu, gpu
from benchmarks.gpu.shapes import ITEMS, KEEPS
from irprune.kernels.triton.config import own_pins

DTYPES = ("float32", "float64", "bfloat16")
STAGES = ("correctness", "kernels", "models", "captured")
WHOLE = frozenset({"models", "captured"})
"""Stages of whole models."""
SHARES = {"ahead": 0.3, "correctness": 0.5, "kernels": 0.8, "models": 0.92, "captured": 0.98}
"""Of the whole time, when each stage ends at the latest; a case that has begun is finished."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.gpu.run", description=description)
    names = [item.name for item in ITEMS]
    made.add_argument("-o", type=Path, required=True, metavar="DIR")
    made.add_argument("--layers", nargs="+", choices=names, default=names)
    made.add_argument("--keep", nargs="+", type=float, default=list(KEEPS))
    made.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    made.add_argument("--nodes", type=int, default=64)
    made.add_argument("--edges", type=int, default=2048)
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    made.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    made.add_argument("--minutes", type=float, default=10.0, help="for all stages together")
    made.add_argument("--jobs", type=int, help="compilers at once; one per processor by default")
    made.add_argument("--timed-edges", type=int, default=200_000)
    layouts = ("ir_mul", "mul_ir")
    made.add_argument("--layout", choices=layouts, default=layouts[0], help="of whole models")
    made.add_argument("--models", nargs="*", default=[], help="graph files of irprune optimize")
    made.add_argument(
        "--originals", nargs="*", default=[], help="graph files of the same models as loaded"
    )
    return made


def missing_models(given: argparse.Namespace) -> str | None:
    """What is wrong with the files of models: said before anything runs, as they are read last."""
    makers = {"models": "irprune optimize", "originals": "irprune export --target graph"}
    for name, maker in makers.items():
        missing = [m for m in getattr(given, name) if not Path(m).is_file()]
        if missing:
            return f"--{name} names what is no file: {', '.join(missing)}; {maker} writes them"
    named = [Path(m).name for m in given.models]
    if len(set(named)) < len(named):
        return f"--models names files that are called the same: {', '.join(named)}; rename them"
    if given.originals and len(given.originals) != len(given.models):
        return (
            f"--originals names {len(given.originals)} files for {len(given.models)} --models:"
            " expected one for each, in their order"
        )
    return None


def run(
    arguments: Sequence[str] | None,
    find: Callable[[], Device] | None,
    clock: Callable[[], float],
    description: str | None,
) -> int:
    """Runs the stages; 1 if a kernel is wrong or something raised, 2 if there is nothing to run on."""
    given = parser(description).parse_args(arguments)
    if given.device == "cpu" and given.stages != ["correctness"]:
        sys.stderr.write("--device cpu times nothing: add --stages correctness\n")
        return 2
    complaint = missing_models(given)
    if complaint is not None:
        sys.stderr.write(f"{complaint}\n")
        return 2
    if WHOLE.intersection(given.stages) and not given.models:
        sys.stderr.write("no --models were given: no whole model is timed\n")
        given.stages = [s for s in given.stages if s not in WHOLE]
        if not given.stages:
            return 2
    given.compiled = None
    budget = Budget(60 * given.minutes, clock)
    try:
        device = None if given.device == "cpu" else (find or gpu)()
    except NoGpu as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    if device is not None and device.architecture is not None:
        done = compile_ahead(given, device.architecture, budget.seconds_until(SHARES["ahead"]))
        given.compiled = lambda spec, config, dtype: name_of(spec, config, dtype) in done
    failed = False
    if "correctness" in given.stages:
        with own_pins():
            found = stages.check(given, budget.until(SHARES["correctness"]))
        wrong = sum(map(stages.wrong, found["results"]))
        sys.stderr.write(
            f"{len(found['results'])} checked, {wrong} wrong, {len(found['not_reached'])} not reached\n"
        )
        failed = stages.bad(found)
        if wrong or "lost" in found or not found["results"]:
            return 1
    timed = {
        "kernels": stages.time_kernels,
        "models": stages.time_models,
        "captured": stages.time_captured,
    }
    for stage, measure in timed.items():
        if stage in given.stages and device is not None:
            with own_pins():
                found = measure(given, device, budget.until(SHARES[stage]))
            failed |= stages.bad(found)
            if "lost" in found:
                break
    return int(failed)
