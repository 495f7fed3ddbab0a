"""Is a convolution that makes its own weights worth it?

    python -m benchmarks.gpu.radial.run --arch sm_90 -o benchmarks/results/gpu/radial-sm_90.json

compiles it for layers of real models, without a GPU, beside the kernel that reads its weights. With
``--device cuda`` both ways are also run: compared with float64, and timed in turn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.radial.compiled import HIDDEN, compare
from benchmarks.gpu.stages import gpu_versions
from benchmarks.machine import stamp
from irprune.kernels.tuner.architecture import architecture_named, architecture_of
from irprune.specs.problems import problem_named

LAYERS = ("sevennet-0", "mace-small", "mace-medium")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compiles, and on a GPU checks and times, what is asked for; 1 if a way is wrong or raises."""
    made = argparse.ArgumentParser(prog="benchmarks.gpu.radial.run", description=__doc__)
    made.add_argument(
        "--arch", default="sm_90", help="to compile for; on a GPU it is that of the GPU"
    )
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument("--layers", nargs="+", default=list(LAYERS))
    made.add_argument("-o", "--output", type=Path, required=True)
    given = made.parse_args(arguments)
    import irprune  # noqa: F401  e3nn is made ready before it is imported
    from irprune.ops.base import load_builtin_ops

    load_builtin_ops()
    if given.device == "cuda":
        import torch

        from benchmarks.gpu.radial.timed import timed
        from irprune.kernels.tuner.stage2 import CudaTimer

        place = torch.device("cuda", 0)
        timer, architecture = CudaTimer(place), architecture_of(place)
    else:
        architecture = architecture_named(given.arch)
    result = {
        **stamp("radial", "python -m benchmarks.gpu.radial.run"),
        "gpu_versions": gpu_versions(),
        "architecture": architecture.name,
        "hidden": HIDDEN,
        "layers": {},
    }
    for name in given.layers:
        spec = problem_named(name)
        row = compare(spec, architecture)
        if given.device == "cuda":
            row["timed"] = timed(spec, row, place, timer)
        result["layers"][name] = row
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(summary(row)), flush=True)
    return int(any(r.get("timed", {}).get("failed") for r in result["layers"].values()))


def summary(row: dict[str, Any]) -> dict[str, Any]:
    """Instructions per edge of every way, and times where there are."""
    fused = {
        f"{p}, {how}": found["instructions"]
        for p, ways in row["fused"].items()
        for how, found in ways.items()
    }
    return {"separate": row["separate"]["instructions"], **fused, **row.get("timed", {})}


if __name__ == "__main__":
    raise SystemExit(main())
