"""What the fused kernels need, without a GPU: registers, spills, instructions per edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.gpu.kernels import DEGREE
from benchmarks.gpu.radial.kernel import DIVISIONS, Tile, source, tiles
from irprune.devices import processors
from irprune.kernels.triton.config import shallow
from irprune.kernels.triton.convolution import Group
from irprune.kernels.triton.source import Source, index_by_name, sources
from irprune.kernels.tuner.architecture import Architecture
from irprune.kernels.tuner.compile import compile_source
from irprune.kernels.tuner.facts import read_facts
from irprune.kernels.tuner.pool import in_processes
from irprune.specs.path import PathSpec

PRECISIONS = ("ieee", "tf32x3", "tf32")
HIDDEN = 64
"""What goes into the last radial layer of MACE and SevenNet."""
INSTRUCTIONS, FLOPS, BYTES = 132 * 4 * 1.98e9, 67e12, 4.8e12
"""Per second, of an H200 by its data sheet: warp instructions, float32, memory."""
Row = dict[str, Any]


def compare(spec: PathSpec, architecture: Architecture) -> Row:
    """Both ways for one convolution: the fewest instructions per edge of what does not spill."""
    made = {
        "weights": spec.n_weights,
        "flops_of_radial_layer": 2 * HIDDEN * spec.n_weights,
        "separate": separate(spec, architecture),
        "fused": {
            precision: {how: together(spec, how, precision, architecture) for how in DIVISIONS}
            for precision in PRECISIONS
        },
    }
    return {**made, "ns_per_edge_on_paper": on_paper(spec, made)}


def on_paper(spec: PathSpec, made: Row) -> dict[str, float]:
    """Nanoseconds per edge of an H200 by its data sheet: an estimate, for comparison.

    Separate: the layer for every pair of edges, bound by FLOPs in float32, by what it reads and writes
    in tf32; then the convolution, bound by what it reads, a row of weights for every edge. Fused: by
    its instructions alone.
    """
    first, harmonics, last = spec.dims
    row, hidden = 4 * spec.n_weights, 4 * HIDDEN
    read = row + 4 * harmonics + 3 * 8 + 4 * (first + last) / DEGREE
    flops = made["flops_of_radial_layer"]
    layer = {"float32": flops / 2 / FLOPS, "tf32": (row + hidden) / 2 / BYTES}
    found = {f"separate {p}": seconds + read / BYTES for p, seconds in layer.items()}
    for p, ways in made["fused"].items():
        counts = [w["instructions"] for w in ways.values() if w["instructions"] is not None]
        if counts:
            found[f"fused {p}"] = min(counts) / INSTRUCTIONS
    return {name: round(1e9 * seconds, 2) for name, seconds in found.items()}


def separate(spec: PathSpec, architecture: Architecture) -> Row:
    """The kernels that read their weights, in the best configuration of one node and one stage."""
    found = []
    for config in shallow(spec):
        if config.variant != "csr":
            continue
        made = index_by_name(sources(spec, config, torch.float32))
        rows = [
            facts(s, architecture, config.warps)
            for name, s in made.items()
            if name.startswith("forward")
        ]
        if not any(r["stack"] for r in rows):
            found.append({"layout": str(config), "instructions": total(rows)})
    return min(found, key=lambda r: float(r["instructions"]))


def together(spec: PathSpec, how: str, precision: str, architecture: Architecture) -> Row:
    """The kernels that make them, each in its best tile; none where one spills in every tile."""
    groups = DIVISIONS[how](spec)
    given = [
        (f"{i} {tile}", (spec, group, str(tile), architecture))
        for i, group in enumerate(groups)
        for tile in tiles(group.mul, precision)
    ]
    made = dict(in_processes(tried, given, processors()))
    kernels: list[Row] = []
    for i, group in enumerate(groups):
        rows = [r for name, r in made.items() if name.startswith(f"{i} ") and r["stack"] == 0]
        best = min(rows, key=lambda r: float(r["instructions"]), default=None)
        kernels.append({"channels": group.mul, "paths": len(group.paths), "best": best})
    best = [k["best"] for k in kernels]
    return {
        "instructions": None if None in best else total(best),
        "spilling": f"{sum(r['stack'] > 0 for r in made.values())} of {len(made)}",
        "kernels": kernels,
    }


def tried(spec: PathSpec, group: Group, layout: str, architecture: Architecture) -> Row:
    """One kernel in one tile."""
    tile = Tile.parse(layout)
    made = source(spec, group, HIDDEN, tile)
    return {"layout": layout, **facts(made, architecture, tile.warps, tile.edges)}


def facts(made: Source, architecture: Architecture, warps: int, at_once: int = 1) -> Row:
    """Of one kernel; tiles are taken to be full."""
    found = compile_source(made, architecture)
    return read_facts(made.name, found, architecture, warps, made.blocks, DEGREE, at_once).to_json()


def total(rows: list[Row]) -> float:
    """Instructions of some kernels per edge."""
    return round(sum(float(r["instructions"]) for r in rows), 1)


def chosen(found: Mapping[str, Any], spec: PathSpec, precision: str) -> list[tuple[Group, Tile]]:
    """The kernels of the division that needs least by ``compare``; none where each spills."""
    fitting = {
        how: row
        for how, row in found["fused"][precision].items()
        if row["instructions"] is not None
    }
    if not fitting:
        return []
    how = min(fitting, key=lambda h: float(fitting[h]["instructions"]))
    layouts = [Tile.parse(k["best"]["layout"]) for k in fitting[how]["kernels"]]
    return list(zip(DIVISIONS[how](spec), layouts, strict=True))
