"""Profiles one model in a fresh process: python -m benchmarks.profile.worker JOB.json.

Before is the graph as it was traced: the modules of the stock code, node by node. After is what
``irprune optimize`` makes of it. What is written has seconds; the result that is published has not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.files import read_json, write_json
from benchmarks.problems import CRYSTALS, MODELS

SEED = 0
DTYPE = "float32"
"""As in the other benchmarks; the checkpoint of MACE is in float64."""


def measure(job: Mapping[str, Any], graph: Any, fast: Any) -> None:
    """Writes both profiles, and the seconds of a call of (before, after) in each round."""
    import torch

    from irprune.profile.compare import compare

    torch.set_num_threads(job["threads"])
    atoms = CRYSTALS[job["crystal"]].supercell(job["atoms"])
    found = compare(graph, fast, atoms, job["repeats"])
    print(f"  {job['model']} {len(atoms)} atoms: after / before {found.ratio:.3f}",
          file=sys.stderr, flush=True)  # fmt: skip
    write_json(
        Path(job["output"]),
        {
            "before": found.first.to_json(),
            "after": found.second.to_json(),
            "rounds": [list(r) for r in found.rounds],
        },
    )


def main() -> None:
    """The command line. Optimized and verified in the dtype of the checkpoint, then both cast."""
    import torch

    import irprune

    job = read_json(Path(sys.argv[1]))
    graph = irprune.load(MODELS[job["model"]].location(), trust=True)
    fast = irprune.optimize(graph, seed=SEED)
    dtype = getattr(torch, DTYPE)
    measure(job, *(g.replace(gm=g.module(dtype)) for g in (graph, fast)))


if __name__ == "__main__":
    main()
