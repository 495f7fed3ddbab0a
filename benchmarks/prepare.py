"""Makes the pruned model files of one model: python -m benchmarks.prepare MODEL -o FOLDER.

No weights are recovered: what a call costs depends on the shapes of the weights, not their values.
Files that are there and were made by the same recipe are kept.

Each file is reloaded in a fresh process, with irprune's own check at its own tolerance, on the
crystal that the model is timed on. The default there is generated structures; on some of those
7net-l3i5 fails in float32 even with nothing removed (see README.md), which is not about speed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.files import read_json, sha256, write_json
from benchmarks.machine import commit
from benchmarks.problems import CRYSTALS, MODELS, PER_CELL, Model

SCORE = "score{by=energy-force,structures=8}"
TAIL = "slice,rewrite-tp"
SEED = 0
ORIGINAL, REBUILT = "original", "rebuilt"
"""The checkpoint itself; and the checkpoint exported with every block kept, as a control."""


def variant_names(keeps: Sequence[float]) -> list[str]:
    """``original``, ``rebuilt``, and one name per keep."""
    return [ORIGINAL, REBUILT, *(f"keep-{k:g}" for k in keeps)]


def keep_of(variant: str) -> float:
    """Share of the blocks that was asked for."""
    return float(variant.removeprefix("keep-")) if variant.startswith("keep-") else 1.0


def recipe(variant: str) -> str:
    """The pipeline that makes a variant; empty where nothing is removed."""
    if variant in (ORIGINAL, REBUILT):
        return ""
    return f"{SCORE},select{{keep={keep_of(variant):g}}},{TAIL}"


def files_of(model: Model, variant: str, folder: Path) -> tuple[Path, Path]:
    """The model file and the JSON beside it."""
    stem = f"{model.name}-{variant}"
    return folder / f"{stem}{model.suffix}", folder / f"{stem}.json"


def checkpoint_id(model: Model) -> str:
    """What the pruned files were made from."""
    if model.file:
        return f"sha256:{sha256(Path(model.location()))}"
    from importlib.metadata import version

    return f"sevenn=={version('sevenn')}"


def is_ready(model: Model, variant: str, folder: Path, checkpoint: str) -> bool:
    """Whether the file is there, whole, and of this recipe."""
    path, facts_path = files_of(model, variant, folder)
    facts = read_json(facts_path)
    if not facts or (facts["recipe"], facts["checkpoint"]) != (recipe(variant), checkpoint):
        return False
    return variant == ORIGINAL or (path.is_file() and sha256(path) == facts["sha256"])


def facts_of(graph: Any) -> dict[str, Any]:
    """Size of a graph; FLOPs per atom are ``flops_node + edges_per_atom * flops_edge``."""
    one, two = graph.stats(edges_per_atom=1.0), graph.stats(edges_per_atom=2.0)
    per_edge = two.flops_per_atom - one.flops_per_atom
    return {
        "params": one.params,
        "blocks": one.blocks,
        "flops_node": one.flops_per_atom - per_edge,
        "flops_edge": per_edge,
        "irreps": graph.irreps_per_layer(),
    }


def prepare(model: Model, keeps: Sequence[float], folder: Path) -> None:
    """Writes what is missing: one model file and one JSON per variant."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoint_id(model)
    missing = [v for v in variant_names(keeps) if not is_ready(model, v, folder, checkpoint)]
    if not missing:
        return
    import irprune
    from irprune.export import export

    log(f"{model.name}: load")
    graph = irprune.load(model.location(), trust=True)
    assert graph.atomistic is not None
    frames = [CRYSTALS[model.crystal].supercell(PER_CELL, seed) for seed in range(3)]
    scored = None
    for variant in missing:
        made, tier, digest, checks = graph, "", "", []
        if recipe(variant):
            if scored is None:
                log(f"{model.name}: {SCORE}")
                scored = irprune.run(SCORE, graph, seed=SEED)
            rest = recipe(variant).removeprefix(f"{SCORE},")
            log(f"{model.name}: {rest}")
            made = irprune.run(rest, scored, seed=SEED)
        path, facts_path = files_of(model, variant, folder)
        if variant != ORIGINAL:
            log(f"{model.name}: export and reload {variant}")
            done = export(made, path, frames=frames)
            tier, digest, checks = done.tier, sha256(path), [c.to_json() for c in done.checks]
        facts = {"recipe": recipe(variant), "checkpoint": checkpoint, "commit": commit()["hash"]}
        facts |= {"keep": keep_of(variant), "tier": tier, "sha256": digest, "checks": checks}
        facts |= {"cutoff": graph.atomistic.cutoff, **facts_of(made)}
        write_json(facts_path, facts)


def log(message: str) -> None:
    """Progress, on stderr."""
    print(f"prepare {message}", file=sys.stderr, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=list(MODELS))
    parser.add_argument("--keep", default="0.75,0.5,0.25")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    prepare(MODELS[options.model], [float(k) for k in options.keep.split(",")], options.output)


if __name__ == "__main__":
    main()
