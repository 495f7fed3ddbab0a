"""Checks and times kernels on the layers of real models, and whole models, on one GPU.

    python -m benchmarks.gpu.run -o out/gpu

Correctness first: every layer, full and pruned, in every variant, against the reference in float64 on
the same device (``correctness.json``). Then every backend in turn (``kernels.json``), and whole models
(``models.json``). What the time does not suffice for is listed as not reached. The exit code is 1 if a
kernel is wrong, and nothing is timed then; 2 without a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.files import write_json
from benchmarks.gpu.device import Budget, Device, NoGpu, gpu
from benchmarks.gpu.shapes import KEEPS, LAYERS, SHAPES, Layer

DTYPES = ("float32", "float64", "bfloat16")
STAGES = ("correctness", "kernels", "models")
SHARES = {"correctness": 0.35, "kernels": 0.8, "models": 0.95}
"""Of the whole time, when each stage ends at the latest; a case that has begun is finished."""


def cases(layers: Sequence[str], keeps: Sequence[float]) -> Iterator[tuple[Layer, float, str]]:
    """(layer, keep, shape of the channel counts); a full layer has one shape."""
    for layer in LAYERS:
        if layer.name in layers:
            for keep in keeps:
                for shape in SHAPES[: 1 if keep == 1.0 else None]:
                    yield layer, keep, shape


def check(
    arguments: argparse.Namespace, time_left: Callable[[], bool] = lambda: True
) -> dict[str, Any]:
    """All cases that there is time for; one line of progress for each on stderr."""
    import torch

    from benchmarks.gpu.correctness import compare, operands
    from benchmarks.gpu.shapes import spec_of
    from irprune.kernels.triton.config import Config, default

    found = machine.stamp("gpu_correctness", "python -m benchmarks.gpu.run")
    on_gpu = arguments.device == "cuda"
    found["device"] = torch.cuda.get_device_name() if on_gpu else "Triton's interpreter"
    found["settings"] = {"nodes": arguments.nodes, "edges": arguments.edges}
    found["results"], found["not_reached"] = [], []
    for layer, keep, shape in cases(arguments.layers, arguments.keep):
        if not time_left():
            found["not_reached"].append([layer.name, keep, shape])
            continue
        spec = spec_of(layer, keep, shape)
        block = default(spec).block
        for dtype in arguments.dtypes:
            given = operands(
                spec, arguments.nodes, arguments.edges, arguments.device, getattr(torch, dtype)
            )
            for variant in ("csr", "atomic"):
                start = time.perf_counter()
                row = compare(spec, Config(block, 1, 1, variant), given)
                row = {"layer": layer.name, "keep": keep, "shape": shape, "spec": spec.key, **row}
                found["results"].append(row)
                sys.stderr.write(
                    f"{layer.name} keep={keep} {shape} {dtype} {variant}:"
                    f" {'ok' if row['ok'] else 'WRONG'} {max(row['errors'].values()):.1e}"
                    f" ({time.perf_counter() - start:.1f} s)\n"
                )
    return found


def time_kernels(
    arguments: argparse.Namespace, device: Device, time_left: Callable[[], bool]
) -> dict[str, Any]:
    """Every layer by every backend, while there is time; the file is written after each."""
    from benchmarks.gpu.kernels import measure

    found = stamped("gpu_kernels", device)
    for layer, keep, shape in in_order(arguments.layers, arguments.keep):
        if not time_left():
            found["not_reached"].append([layer.name, keep, shape])
            continue
        row = measure(layer, keep, shape, device, count=arguments.timed_edges)
        found["results"].append(row)
        sys.stderr.write(f"{layer.name} keep={keep} {shape}: timed {', '.join(row['errors'])}\n")
        write_json(arguments.o / "kernels.json", found)
    return found


def time_models(
    arguments: argparse.Namespace, device: Device, time_left: Callable[[], bool]
) -> dict[str, Any]:
    """Every model at every size, small ones first, while there is time."""
    from benchmarks.gpu.models import SIZES, measure

    found = stamped("gpu_models", device)
    for atoms in SIZES:
        for model in arguments.models:
            if not time_left():
                found["not_reached"].append([model, atoms])
                continue
            found["results"].append(measure(model, atoms, device, layout=arguments.layout))
            sys.stderr.write(f"{model}, {atoms} atoms: timed\n")
            write_json(arguments.o / "models.json", found)
    return found


def in_order(layers: Sequence[str], keeps: Sequence[float]) -> Iterator[tuple[Layer, float, str]]:
    """The cases, each model whole and at one half first: what a run that is cut off should have."""
    found = list(cases(layers, keeps))
    first = (1.0, 0.5)
    yield from sorted(
        found, key=lambda c: (c[1] not in first, first.index(c[1]) if c[1] in first else 0)
    )


def stamped(benchmark: str, device: Device) -> dict[str, Any]:
    """The head of a result: when, on what, with which versions."""
    return {
        **machine.stamp(benchmark, "python -m benchmarks.gpu.run"),
        "device": device.name,
        "copy_bytes_per_second": device.bandwidth,
        "gpu_versions": gpu_versions(),
        "results": [],
        "not_reached": [],
    }


def gpu_versions() -> dict[str, str]:
    """Of the packages that bring kernels, those that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("triton", "cuequivariance-torch", "cuequivariance-ops-torch-cu12",
                 "openequivariance"):  # fmt: skip
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.gpu.run", description=__doc__)
    names = [layer.name for layer in LAYERS]
    made.add_argument("-o", type=Path, required=True, metavar="DIR")
    made.add_argument("--layers", nargs="+", choices=names, default=names)
    made.add_argument("--keep", nargs="+", type=float, default=list(KEEPS))
    made.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    made.add_argument("--nodes", type=int, default=64)
    made.add_argument("--edges", type=int, default=2048)
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    made.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    made.add_argument("--minutes", type=float, default=10.0, help="for all stages together")
    made.add_argument("--timed-edges", type=int, default=200_000)
    layouts = ("ir_mul", "mul_ir")
    made.add_argument("--layout", choices=layouts, default=layouts[0], help="of whole models")
    made.add_argument("--models", nargs="*", default=[], help="graph files of irprune optimize")
    return made


def main(
    arguments: Sequence[str] | None = None,
    find: Callable[[], Device] = gpu,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Runs the stages; 1 if a kernel is wrong, 2 if there is nothing to run on."""
    given = parser().parse_args(arguments)
    if given.device == "cpu" and given.stages != ["correctness"]:
        sys.stderr.write("--device cpu times nothing: add --stages correctness\n")
        return 2
    budget = Budget(60 * given.minutes, clock)
    try:
        device = None if given.device == "cpu" else find()
    except NoGpu as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    if "correctness" in given.stages:
        found = check(given, budget.until(SHARES["correctness"]))
        write_json(given.o / "correctness.json", found)
        wrong = sum(not row["ok"] for row in found["results"])
        sys.stderr.write(
            f"{len(found['results'])} checked, {wrong} wrong, {len(found['not_reached'])} not reached\n"
        )
        if wrong or not found["results"]:
            return 1
    failed = False
    for stage, run in (("kernels", time_kernels), ("models", time_models)):
        if stage in given.stages and device is not None:
            found = run(given, device, budget.until(SHARES[stage]))
            write_json(given.o / f"{stage}.json", found)
            failed |= any(row.get("wrong") or not row.get("ok", True) for row in found["results"])
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
