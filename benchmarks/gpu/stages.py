"""The stages of a run: each measures its cases while there is time, and writes its file after each."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.files import write_json
from benchmarks.gpu.device import Device
from benchmarks.gpu.failures import CASE, DeviceLost, attempt, serious
from benchmarks.gpu.shapes import ITEMS, SHAPES, Item, Layer, kernel_spec
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

Found = dict[str, Any]
Case = tuple[dict[str, Any], Callable[[], dict[str, Any]]]
"""What names a case in the results, and what measures it."""


def cases(names: Sequence[str], keeps: Sequence[float]) -> Iterator[tuple[Item, float, str]]:
    """(item, keep, shape of the channel counts); a full layer has one shape."""
    for item in ITEMS:
        if item.name in names:
            for keep in keeps:
                for shape in SHAPES[: 1 if keep == 1.0 else None]:
                    yield item, keep, shape


def in_order(names: Sequence[str], keeps: Sequence[float]) -> Iterator[tuple[Item, float, str]]:
    """The cases, everything whole and at one half first: what a run that is cut off should have."""
    found = list(cases(names, keeps))
    first = (1.0, 0.5)
    yield from sorted(
        found, key=lambda c: (c[1] not in first, first.index(c[1]) if c[1] in first else 0)
    )


def measured(
    found: Found, path: Path, given: Iterable[Case], time_left: Callable[[], bool]
) -> Found:
    """Every case while there is time. One that raises has ``failed`` in its row.

    After a failure that the GPU does not outlive, the rest is not reached and ``lost`` says why.
    """
    for head, measure in given:
        if "lost" in found or not time_left():
            found["not_reached"].append(list(head.values()))
            continue
        failed: dict[str, str] = {}
        row: dict[str, Any] | None = None
        start = time.perf_counter()
        try:
            row = attempt(failed, CASE, measure)
        except DeviceLost as error:
            found["lost"] = str(error)
            failed.setdefault(CASE, str(error))
        found["results"].append({**head, **(row or {"failed": failed})})
        sys.stderr.write(
            f"{' '.join(map(str, head.values()))}: {verdict(found['results'][-1])}"
            f" ({time.perf_counter() - start:.1f} s)\n"
        )
        write_json(path, found)
    write_json(path, found)
    return found


def verdict(row: dict[str, Any]) -> str:
    """One word on a row, and what failed in it."""
    failed = row.get("failed", {})
    said = "WRONG" if wrong(row) else "FAILED" if serious(failed) else "ok"
    return "; ".join([said, *(f"{name}: {text}" for name, text in failed.items())])


def wrong(row: dict[str, Any]) -> bool:
    """Whether something in the row computed other numbers than it should."""
    return bool(row.get("wrong")) or not row.get("ok", True)


def bad(found: Found) -> bool:
    """Whether the run must end with an error: wrong numbers, or failures that are not results."""
    rows = found["results"]
    if found.get("benchmark") == "gpu_models" and never_compared(found):
        return True
    return "lost" in found or any(wrong(r) or serious(r.get("failed", {})) for r in rows)


def never_compared(found: Found) -> list[str]:
    """Models that were timed, and whose results were compared at no size."""
    timed = {r["model"] for r in found["results"]}
    return sorted(timed - {r["model"] for r in found["results"] if r.get("errors")})


def check(arguments: argparse.Namespace, time_left: Callable[[], bool] = lambda: True) -> Found:
    """The Triton kernels in every variant against float64; everything in one precision first."""
    found = machine.stamp("gpu_correctness", "python -m benchmarks.gpu.run")
    on_gpu = arguments.device == "cuda"
    found["device"] = torch.cuda.get_device_name() if on_gpu else "Triton's interpreter"
    found["settings"] = {"nodes": arguments.nodes, "edges": arguments.edges}
    found["results"], found["not_reached"] = [], []
    given = (
        ({**_head(*c), "dtype": d, "variant": v}, partial(_compare, arguments, *c, d, v))
        for d in arguments.dtypes
        for c in in_order(arguments.layers, arguments.keep)
        for v in variants(c[0])
    )
    return measured(found, arguments.o / "correctness.json", given, time_left)


def variants(item: Item) -> tuple[str, ...]:
    """The ways in which its kernels share work out."""
    from irprune.kernels.triton.config import VARIANTS

    return VARIANTS[PathSpec if isinstance(item, Layer) else PolySpec]


def _compare(
    arguments: argparse.Namespace, item: Item, keep: float, shape: str, dtype: str, variant: str
) -> dict[str, Any]:
    from benchmarks.gpu.correctness import compare, operands
    from irprune.kernels.triton.config import Config, default

    spec = kernel_spec(item, keep, shape)
    given = operands(
        spec, arguments.nodes, arguments.edges, arguments.device, getattr(torch, dtype)
    )
    config = Config(default(spec).block, 1, 1, variant)
    return {"spec": spec.key, **compare(spec, config, given)}


def time_kernels(
    arguments: argparse.Namespace, device: Device, time_left: Callable[[], bool]
) -> Found:
    """Every convolution and contraction by every backend."""
    from benchmarks.gpu.kernels import measure

    given = (
        (
            _head(*c),
            partial(measure, *c, device, count=arguments.timed_edges, compiled=arguments.compiled),
        )
        for c in in_order(arguments.layers, arguments.keep)
    )
    found = stamped("gpu_kernels", device)
    return measured(found, arguments.o / "kernels.json", given, time_left)


def time_models(
    arguments: argparse.Namespace, device: Device, time_left: Callable[[], bool]
) -> Found:
    """Every model at every size, small ones first."""
    from benchmarks.gpu.models import SIZES, measure

    given = (
        (
            {"model": Path(model).name, "wanted_atoms": atoms},
            partial(measure, model, atoms, device, layout=arguments.layout, original=original),
        )
        for atoms in SIZES
        for model, original in originals_of(arguments)
    )
    found = measured(stamped("gpu_models", device), arguments.o / "models.json", given, time_left)
    for model in never_compared(found):
        sys.stderr.write(f"{model}: nothing was compared, at no size did it run in two ways\n")
    return found


def originals_of(arguments: argparse.Namespace) -> list[tuple[str, str | None]]:
    """Each model with the file of it as it was loaded, where those are given."""
    originals = arguments.originals or [None] * len(arguments.models)
    return list(zip(arguments.models, originals, strict=True))


def time_captured(
    arguments: argparse.Namespace, device: Device, time_left: Callable[[], bool]
) -> Found:
    """Every model as a CUDA graph, small sizes first."""
    from benchmarks.gpu.captured import measure
    from benchmarks.gpu.models import SIZES

    given = (
        (
            {"model": Path(model).name, "wanted_atoms": atoms},
            partial(measure, model, atoms, device, layout=arguments.layout),
        )
        for atoms in SIZES
        for model in arguments.models
    )
    return measured(
        stamped("gpu_captured", device), arguments.o / "captured.json", given, time_left
    )


def _head(item: Item, keep: float, shape: str) -> dict[str, Any]:
    return {"layer": item.name, "keep": keep, "shape": shape}


def stamped(benchmark: str, device: Device) -> Found:
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
                 "cuequivariance-ops-torch-cu13", "openequivariance"):  # fmt: skip
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
