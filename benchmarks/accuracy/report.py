"""Tables of an experiment: mean and spread over seeds.

python -m benchmarks.accuracy.report RESULT.json [--write PAGE.md]
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

from benchmarks.table import command_line, measured_with

ERRORS = {
    "force_mae_ev_per_a": ("forces, meV/Å", 1e3),
    "energy_mae_ev_per_atom": ("energy, meV/atom", 1e3),
    "stress_mae_gpa": ("stress, GPa", 1.0),
}


def measurements(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """One entry per arm, budget and seed; what was tested before recovery counts as no steps."""
    out: dict[tuple[str, int, int], Mapping[str, Any]] = {}
    for r in result["results"]:
        if "before" in r:
            before = {**r, "steps": 0, "flops": r["flops_chosen"], "test": r["before"]}
            out.setdefault((r["arm"], 0, r["seed"]), before)
        out[r["arm"], r["steps"], r["seed"]] = r
    return sorted(out.values(), key=lambda r: r["steps"])


def rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per arm and budget: compute, and mean and standard deviation of each error."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for r in measurements(result):
        groups.setdefault((r["arm"], r["steps"]), []).append(r)
    out = []
    for (arm, steps), found in groups.items():
        row: dict[str, Any] = {"arm": arm, "steps": steps, "seeds": len(found)}
        row["flops"] = statistics.mean(f["flops"] for f in found)
        row["lr"] = found[0].get("lr") if found[0]["steps"] else None
        row["params"] = round(statistics.mean(f["params"] for f in found))
        for key in ERRORS:
            values = [f["test"][key] for f in found if f["test"][key] is not None]
            if values:
                spread = statistics.stdev(values) if len(values) > 1 else None
                row[key] = (statistics.mean(values), spread)
        out.append(row)
    return out


def compute_at(curve: Sequence[tuple[float, float]], error: float) -> float | None:
    """The compute at which a curve of (FLOPs, error) first comes down to an error.

    Straight lines in logarithms between points; the first point where it is there already, and None
    where the curve does not come down so far.
    """
    points = sorted(curve)
    if points and points[0][1] <= error:
        return points[0][0]
    for (x0, y0), (x1, y1) in pairwise(points):
        if y1 <= error < y0:
            share = math.log(y0 / error) / math.log(y0 / y1)
            return x0 * (x1 / x0) ** share
    return None


def equal_errors(result: Mapping[str, Any]) -> list[str]:
    """For a structure that was pruned and from scratch: the compute of both at the final error of the
    latter.
    """
    found = rows(result)
    lines = []
    for arm in (a for a in result["arms"] if a["start"] == "scratch"):
        own = sorted((r for r in found if r["arm"] == arm["name"]), key=lambda r: r["steps"])
        others = [a["name"] for a in result["arms"]
                  if a["start"] == "pruned" and a["prune"] == arm["prune"]]  # fmt: skip
        for other, key in product(others if own else [], ERRORS):
            if key not in own[-1]:
                continue
            label, scale = ERRORS[key]
            goal, spent = own[-1][key][0], own[-1]["flops"]
            curve = [(r["flops"], r[key][0]) for r in found if r["arm"] == other]
            at = compute_at(curve, goal)
            told = (
                "does not come down to that"
                if at is None
                else f"is there after {at / 1e12:.2g}: {_times(spent / at)}"
            )
            lines.append(
                f"- {label}: *{arm['name']}* ends at {goal * scale:.3g} after {spent / 1e12:.3g}"
                f" TFLOP; *{other}* {told}."
            )
    return lines


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times less" if ratio >= 1 else f"{1 / ratio:.1f} times more"


def pretrained(result: Mapping[str, Any]) -> list[str]:
    """What the checkpoint took, where the experiment trained it for itself."""
    found = result.get("pretraining")
    if not found:
        return []
    return [
        f"- The checkpoint ({found['hidden']}, {found['params']:,} parameters) was trained first:"
        f" {found['steps']} steps, {found['flops'] / 1e12:.3g} TFLOP, which are in no arm."
    ]


def published(result: Mapping[str, Any]) -> str:
    """The table, compute at equal errors, and what it was measured with."""
    equal = [*equal_errors(result), *pretrained(result)]
    return "\n".join(
        [table(result), "", *equal, *([""] if equal else []), measured_with(result) + "."]
    )


def table(result: Mapping[str, Any]) -> str:
    """Markdown."""
    found = rows(result)
    shown = [k for k in ERRORS if any(k in r for r in found)]
    heads = [
        "arm",
        "parameters",
        "steps",
        "rate",
        "training, TFLOP",
        "seeds",
        *(ERRORS[k][0] for k in shown),
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for r in found:
        rate = "" if r["lr"] is None else f"{r['lr']:g}"
        cells = [r["arm"], f"{r['params']:,}", str(r["steps"]), rate, f"{r['flops'] / 1e12:.3g}",
                 str(r["seeds"])]  # fmt: skip
        for k in shown:
            mean, spread = r.get(k, (None, None))
            scale = ERRORS[k][1]
            text = "" if mean is None else f"{mean * scale:.3g}"
            cells.append(text + ("" if spread is None else f" ± {spread * scale:.2g}"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    command_line(published, __doc__)
