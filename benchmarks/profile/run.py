"""Profiles every model as it was traced and as ``irprune optimize`` makes it.

    python -m benchmarks.profile.run -o out/profile

What is in the folder is not done again: one measurement per model under ``parts/``. Checkpoints of
MACE are pickles and are loaded as such: run this on checkpoints that you trust.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.files import read_json, write_json
from benchmarks.optimize.run import worker
from benchmarks.plan import parse_list
from benchmarks.problems import MODELS, SIZES
from benchmarks.profile.report import table
from benchmarks.timing import paired_ratios

NAME = "profile"
THREADS = 1
SIDES = ("before", "after")


def part_of(options: argparse.Namespace, name: str) -> Path:
    """Where the measurement of a model is kept."""
    path: Path = options.output / "parts" / f"{name}-{options.atoms}-{options.repeats}.json"
    return path


def measure(options: argparse.Namespace) -> None:
    """One fresh process for each model that has not been measured."""
    for name in options.models:
        path = part_of(options, name)
        if path.is_file():
            continue
        job = {"model": name, "crystal": MODELS[name].crystal, "atoms": options.atoms,
               "threads": THREADS, "repeats": options.repeats, "output": str(path)}  # fmt: skip
        worker(job, module="benchmarks.profile.worker")


def shares(profile: Mapping[str, Any]) -> dict[str, Any]:
    """A profile without its seconds: parts of the call, and of the peak."""
    call = profile["seconds_call"]
    ops = [
        {
            "op": row["op"],
            "nodes": row["nodes"],
            "forward": round(row["forward"] / call, 5),
            "backward": round(row["backward"] / call, 5),
            "share_of_peak": round(row["share_of_peak"], 4),
            "flops": row["flops"],
            "bytes": row["bytes"],
        }
        for row in profile["by_op"]
    ]
    kept = {k: profile[k] for k in ("edges", "dtype", "threads")}
    return kept | {"outside": round(profile["seconds_outside"] / call, 5), "ops": ops}


def result_of(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """What is published of one measurement."""
    before, after = zip(*part["rounds"], strict=True)
    return {
        "model": name,
        "crystal": MODELS[name].crystal,
        "atoms": part["before"]["atoms"],
        "ratio": paired_ratios(after, before),
        **{side: shares(part[side]) for side in SIDES},
    }


def gather(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """The result: every model that was asked for."""
    return {
        **machine.stamp(NAME, command),
        "repeats": options.repeats,
        "results": [result_of(n, read_json(part_of(options, n))) for n in options.models],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile.run", description=__doc__)
    parser.add_argument("--models", default="7net-0,7net-l3i5,mace-mp-0-small")
    parser.add_argument("--atoms", type=int, default=64, choices=SIZES)
    parser.add_argument("--repeats", type=int, default=7, help="calls per node, rounds of calls")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    try:
        options.models = parse_list(options.models, str, list(MODELS))
    except ValueError as error:
        parser.error(str(error))
    if options.repeats < 1:
        parser.error(f"repeats must be 1 or more, got {options.repeats}")
    options.output = options.output.resolve()
    measure(options)
    shown = [a for a in sys.argv[1:] if not a.startswith("/")]
    result = gather(options, " ".join(["python -m benchmarks.profile.run", *shown]))
    write_json(options.output / f"{NAME}.json", result)
    print(table(result))


if __name__ == "__main__":
    main()
