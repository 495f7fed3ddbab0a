"""Table and picture of a result: python -m benchmarks.optimize.report RESULT.json [--write README]."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.table import command_line, line, measured_with

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#7b5ea7", "#c78c06", "#555555")


def table(result: Mapping[str, Any]) -> str:
    """Time ratios to the base of each line, then memory."""
    lines = [
        "| model | atoms | threads | against | " + " | ".join(_names(result)) + " |",
        "|" + " --- |" * (4 + len(_names(result))),
    ]
    for r in result["results"]:
        cells = [_cell(r, n) for n in _names(result)]
        first = [r["model"], str(r["atoms"]), str(r["threads"]), r["base"]]
        lines.append("| " + " | ".join(first + cells) + " |")
    lines += ["", "| model | atoms | peak memory: stock | optimized | optimized, keep 0.5 |",
              "| --- | --- | --- | --- | --- |"]  # fmt: skip
    seen = set()
    for r in result["results"]:
        if (r["model"], r["atoms"]) in seen:
            continue
        seen.add((r["model"], r["atoms"]))
        cells = [_peak(r, n) for n in ("stock", "optimized", "optimized, keep 0.5")]
        lines.append("| " + " | ".join([r["model"], str(r["atoms"]), *cells]) + " |")
    lines += ["", *_estimates(result), *_sizes(result), ""]
    lines += [*_compiled(result), *_failures(result), _told(result)]
    return "\n".join(lines)


def _names(result: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(n for r in result["results"] for n in r["ratios"]))


def _cell(r: Mapping[str, Any], name: str) -> str:
    if name == r["base"]:
        return "1"
    if name not in r["ratios"]:
        return "failed" if name in r["failed"] else ""
    found = r["ratios"][name]
    return f"{found['median']:.3f} [{found['q1']:.3f}, {found['q3']:.3f}]"


def _peak(r: Mapping[str, Any], name: str) -> str:
    found = r["peak"].get(name)
    return f"{found['peak_mib'] - found['loaded_mib']:,} MiB" if found else ""


def _estimates(result: Mapping[str, Any]) -> list[str]:
    """Measured over estimated time: what the cost model's roofline leaves out."""
    rows = [r for r in result["results"] if r.get("over_estimate")]
    names = list(dict.fromkeys(n for r in rows for n in r["over_estimate"]))
    lines = [
        line(["model", "atoms", "threads", *(f"time / estimate: {n}" for n in names)]),
        line(["---"] * (3 + len(names))),
    ]
    for r in rows:
        cells = [f"{r['over_estimate'][n]:.2f}" if n in r["over_estimate"] else "" for n in names]
        lines.append(line([r["model"], str(r["atoms"]), str(r["threads"]), *cells]))
    return [*lines, ""] if names else []


def _sizes(result: Mapping[str, Any]) -> list[str]:
    lines = ["| model | keep | parameters | optimized | FLOPs, optimized / original |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, model in result["models"].items():
        for keep, facts in model["keep"].items():
            lines.append(
                f"| {name} | {keep} | {facts['params']:,} | {facts['params_optimized']:,} |"
                f" {facts['flops_ratio']:.2f} |"
            )
    return lines


def _failures(result: Mapping[str, Any]) -> list[str]:
    where: dict[tuple[str, str, str], list[str]] = {}
    for r in result["results"]:
        for name, why in r["failed"].items():
            size = f"{r['atoms']} atoms, {r['threads']} thread" + "s" * (r["threads"] > 1)
            where.setdefault((r["model"], name, why), []).append(size)
    out = [
        f"- {model}, {name} failed ({'; '.join(sizes)}): `{why}`"
        for (model, name, why), sizes in sorted(where.items())
    ]
    return [*out, ""] if out else []


def _compiled(result: Mapping[str, Any]) -> list[str]:
    """Our compiled graph over the same graph as it is, both timed in one process."""
    found = [
        r["compiled_over_optimized"] for r in result["results"] if "compiled_over_optimized" in r
    ]
    if not found:
        return []
    return [
        f"Compiled over optimized, both in one process: {min(found):.2f} to {max(found):.2f}"
        f" ({len(found)} row{'s' * (len(found) > 1)}).",
        "",
    ]


def _told(result: Mapping[str, Any]) -> str:
    exact = {n: _furthest(result, "rounding", n) for n in ("optimized", "stock")}
    return (
        f"{measured_with(result)}{_environment(result)}. Forces in float32 differ from those of stock"
        f" by at most {_furthest(result, 'forces', 'optimized'):.1e} of the largest force, and from"
        f" those of the optimized model in float64 by {exact['optimized']:.1e} (stock:"
        f" {exact['stock']:.1e}), where stock was measured."
    )


def _environment(result: Mapping[str, Any]) -> str:
    found = result.get("environment", {})
    return "".join(f", `{k}={v}`" for k, v in found.items())


def _furthest(result: Mapping[str, Any], key: str, name: str) -> float:
    """The largest difference of forces over all rows that stock was measured in."""
    rows = (r for r in result["results"] if r["base"] == "stock")
    return max((r.get(key, {}).get(name, 0.0) for r in rows), default=0.0)


def plot(result: Mapping[str, Any], stem: Path) -> None:
    """Writes STEM.svg and STEM.png: time ratio to stock against atoms, a panel per model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "irprune"
    models = list(result["models"])
    figure, axes = plt.subplots(
        1, len(models), figsize=(3.8 * len(models), 3.4), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for axis, model in zip(axes[0], models, strict=True):
        rows = [r for r in result["results"] if r["model"] == model and r["base"] == "stock"]
        names = list(dict.fromkeys(n for r in rows for n in r["ratios"]))
        for colour, name in zip(COLOURS, names, strict=False):
            for threads, style in ((1, "-"), (2, "--")):
                mine = [r for r in rows if r["threads"] == threads and name in r["ratios"]]
                axis.plot(
                    [r["atoms"] for r in mine],
                    [r["ratios"][name]["median"] for r in mine],
                    style,
                    color=colour,
                    marker="o",
                    markersize=4,
                    label=name if threads == 1 else None,
                )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.axhline(1.0, color="0.8", linewidth=0.8, zorder=0)
        axis.set_title(f"{model} on {result['models'][model]['crystal']}", fontsize=10)
        axis.set_xlabel("atoms")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        axis.legend(fontsize=7, frameon=False)
    axes[0][0].set_ylabel("time / stock float32\n(solid 1 thread, dashed 2)")
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(stem.with_suffix(".png"), dpi=130, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    command_line(table, __doc__)
