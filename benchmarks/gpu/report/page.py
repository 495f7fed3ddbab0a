"""The page, in Markdown."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.report.figures import Row, against_whole, aims, best_other, ours, ratio, share
from benchmarks.gpu.stages import verdict, wrong
from benchmarks.table import line

Found = Mapping[str, Any]
RESULTS = ("correctness", "kernels", "models", "captured")
MODES = ("forward", "backward", "double backward")


def read(folder: Path) -> dict[str, Found]:
    """The results that a folder has, by name."""
    paths = {name: folder / f"{name}.json" for name in RESULTS}
    return {n: json.loads(p.read_text(encoding="utf-8")) for n, p in paths.items() if p.is_file()}


def page(found: Mapping[str, Found], pictures: Sequence[Path], here: Path) -> str:
    """All of it; ``here`` is the folder of the page, which links to pictures are relative to."""
    parts = [f"# Kernels on {_device(found)}", _told(found)]
    if "correctness" in found:
        parts.append(_correctness(found["correctness"]))
    if "kernels" in found:
        parts += ["## Kernels", *_kernels(found["kernels"])]
    if "models" in found:
        parts += ["## Whole models", _models(found["models"])]
    if "captured" in found:
        parts += ["## As CUDA graphs", _captured(found["captured"])]
    for picture in pictures:
        link = os.path.relpath(picture, here).replace(os.sep, "/")
        parts.append(f"![{picture.stem.replace('-', ' ')}]({link})")
    parts += _left(found)
    return "\n\n".join(parts) + "\n"


def _device(found: Mapping[str, Found]) -> str:
    names = dict.fromkeys(str(f["device"]) for f in found.values())
    return " and ".join(names)


def _told(found: Mapping[str, Found]) -> str:
    first = next(iter(found.values()))
    commits = {
        (f["commit"]["hash"] or "unknown")[:10] + " (modified)" * bool(f["commit"]["dirty"])
        for f in found.values()
    }
    versions = {"torch": first["versions"]["torch"]}
    for f in found.values():
        versions |= f.get("gpu_versions", {})
    copies = {f["copy_bytes_per_second"] for f in found.values() if "copy_bytes_per_second" in f}
    speed = f"; a copy moves {max(copies) / 1e12:.2f} TB/s" if copies else ""
    return (
        f"{', '.join(f'{n} {v}' for n, v in versions.items())}; {first['date']}, commit"
        f" {' and '.join(sorted(commits))}{speed}."
    )


def _correctness(found: Found) -> str:
    rows = found["results"]
    count = sum(map(wrong, rows))
    return (
        f"{len(rows)} kernels were compared with float64 (values, gradients, gradients of gradients):"
        f" {count or 'none'} wrong, {len(found['not_reached'])} not reached."
    )


def _kernels(found: Found) -> list[str]:
    rows = [r for r in found["results"] if r.get("ns_per_row")]
    said = [f"- {aim}" for aim in aims(rows, MODES)]
    parts = [
        "\n".join(said),
        "Ours are the Triton kernels, in the faster of both layouts; *other / ours* is the best other"
        " backend's time over theirs, and *whole, other / ours* that of the best other backend on the"
        " whole layer over ours on what is left of it. *Least* is what the bytes take on the bandwidth"
        " of a copy.",
    ]
    for mode in MODES:
        head = ["layer", "keep", "channels", "ours", "best other", "which", "other / ours",
                "whole, other / ours"]  # fmt: skip
        if mode == MODES[0]:
            head += ["least", "share of bandwidth", "configuration"]
        lines = [line(head), line(["---"] * len(head))]
        lines += [line(_kernel(rows, r, mode)) for r in rows]
        parts.append(f"### {mode.capitalize()}, ns per edge (per atom of a contraction)")
        parts.append("\n".join(lines))
    return parts


def _kernel(rows: Sequence[Row], row: Row, mode: str) -> list[str]:
    times = row["ns_per_row"].get(mode, {})
    mine, other = ours(times), best_other(times)
    cells = [
        row["layer"],
        f"{row['keep']:g}",
        "all" if row["keep"] == 1.0 else row["shape"],
        _number(mine),
        _number(other[1] if other else None),
        other[0] if other else "",
        _number(ratio(row, mode)),
        _number(against_whole(rows, row, mode) if row["keep"] < 1.0 else None),
    ]
    if mode == MODES[0]:
        cells += [_number(row["least_ns_per_row"]), _number(share(row)), row["config"] or ""]
    return cells


def _models(found: Found) -> str:
    names = _names(r.get("microseconds_per_atom", {}) for r in found["results"])
    head = [
        "model",
        "atoms",
        *(f"{n}, µs per atom" for n in names),
        *(f"{n} / triton" for n in names),
    ]
    lines = [line(head), line(["---"] * len(head))]
    for r in found["results"]:
        if "atoms" in r:
            times, over = r.get("microseconds_per_atom", {}), r.get("over_triton", {})
            cells = [
                *(_number(times.get(n)) for n in names),
                *(_number(over.get(n)) for n in names),
            ]
            lines.append(line([r["model"], str(r["atoms"]), *cells]))
    return "\n".join(lines)


def _captured(found: Found) -> str:
    head = ["model", "atoms", "kernels as they are / as a CUDA graph"]
    lines = [line(head), line(["---"] * len(head))]
    for r in found["results"]:
        if "atoms" in r:
            cells = [r["model"], str(r["atoms"]), _number(r.get("triton_over_captured"))]
            lines.append(line(cells))
    return "\n".join(lines)


def _left(found: Mapping[str, Found]) -> list[str]:
    """What was not reached, and what failed or is wrong, by result."""
    lines = []
    for name, result in found.items():
        if result.get("lost"):
            lines.append(f"- {name}: the GPU was lost: {result['lost']}")
        if result["not_reached"]:
            named = "; ".join(" ".join(map(str, n)) for n in result["not_reached"])
            lines.append(f"- {name}, not reached for want of time: {named}")
        for r in result["results"]:
            if wrong(r) or r.get("failed"):
                head = [str(r[k]) for k in ("layer", "keep", "shape", "dtype", "variant", "model",
                                            "wanted_atoms") if k in r]  # fmt: skip
                lines.append(f"- {name}, {' '.join(head)}: {verdict(r)}")
    return ["## What is missing", "\n".join(lines)] if lines else []


def _names(rows: Any) -> list[str]:
    return list(dict.fromkeys(n for r in rows for n in r))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
