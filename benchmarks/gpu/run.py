"""Checks the Triton kernels on the layers of real models, on a GPU.

    python -m benchmarks.gpu.run -o out/gpu

Every layer, full and pruned, in every variant, against the reference in float64 on the same device. It
writes ``correctness.json`` and exits with 1 if a kernel is wrong. Nothing is timed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.files import write_json
from benchmarks.gpu.shapes import KEEPS, LAYERS, SHAPES, Layer

DTYPES = ("float32", "float64", "bfloat16")


def cases(layers: Sequence[str], keeps: Sequence[float]) -> Iterator[tuple[Layer, float, str]]:
    """(layer, keep, shape of the channel counts); a full layer has one shape."""
    for layer in LAYERS:
        if layer.name in layers:
            for keep in keeps:
                for shape in SHAPES[: 1 if keep == 1.0 else None]:
                    yield layer, keep, shape


def check(arguments: argparse.Namespace) -> dict[str, Any]:
    """All cases; one line of progress for each on stderr."""
    import torch

    from benchmarks.gpu.correctness import compare, operands
    from benchmarks.gpu.shapes import spec_of
    from irprune.kernels.triton.config import Config, default

    found = machine.stamp("gpu_correctness", "python -m benchmarks.gpu.run")
    on_gpu = arguments.device == "cuda"
    found["device"] = torch.cuda.get_device_name() if on_gpu else "Triton's interpreter"
    found["settings"] = {"nodes": arguments.nodes, "edges": arguments.edges}
    found["results"] = []
    for layer, keep, shape in cases(arguments.layers, arguments.keep):
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
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the check; 1 if a kernel is wrong."""
    given = parser().parse_args(arguments)
    found = check(given)
    write_json(given.o / "correctness.json", found)
    wrong = sum(not row["ok"] for row in found["results"])
    sys.stderr.write(f"{len(found['results'])} checked, {wrong} wrong\n")
    return 1 if wrong or not found["results"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
