"""The picture of a result: time ratio against keep, with the FLOP ratio beside it.

python -m benchmarks.plot RESULT.json -o STEM
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#7b5ea7")


def plot(result: Mapping[str, Any], stem: Path) -> None:
    """Writes STEM.svg and STEM.png: a column per model, a row per thread count."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "irprune"
    models = list(result["models"])
    threads = sorted({r["threads"] for r in result["results"]})
    figure, axes = plt.subplots(
        len(threads),
        len(models),
        figsize=(3.4 * len(models), 2.9 * len(threads)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, count in zip(axes, threads, strict=True):
        for axis, model in zip(row, models, strict=True):
            found = [r for r in result["results"] if (r["model"], r["threads"]) == (model, count)]
            _panel(axis, found)
            thread = "thread" if count == 1 else "threads"
            crystal = result["models"][model]["crystal"]
            axis.set_title(f"{model} on {crystal}, {count} {thread}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("share of blocks kept")
    for row in axes:
        row[0].set_ylabel("time, pruned / original")
    axes[0][0].set_ylim(0.0, 1.05 * max(1.0, *_tops(result)))
    axes[0][0].legend(loc="lower right", fontsize=8, frameon=False)
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(stem.with_suffix(".png"), dpi=130, metadata={"Software": None})
    plt.close(figure)


def _tops(result: Mapping[str, Any]) -> list[float]:
    return [v["q3"] for r in result["results"] for v in r["variants"]]


def _panel(axis: Any, found: list[Mapping[str, Any]]) -> None:
    for colour, measured in zip(COLOURS, found, strict=False):
        timed = sorted(measured["variants"], key=lambda v: v["keep"])
        keep = [v["keep"] for v in timed]
        median = [v["median"] for v in timed]
        down = [v["median"] - v["q1"] for v in timed]
        up = [v["q3"] - v["median"] for v in timed]
        axis.errorbar(
            keep,
            median,
            yerr=[down, up],
            color=colour,
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=1.5,
            label=f"time, {measured['atoms']} atoms",
        )
    if found:
        timed = sorted(found[-1]["variants"], key=lambda v: v["keep"])
        axis.plot(
            [v["keep"] for v in timed],
            [v["flops_ratio"] for v in timed],
            color="0.35",
            linestyle="--",
            linewidth=1,
            label="FLOPs per atom",
        )
    axis.axhline(1.0, color="0.8", linewidth=0.8, zorder=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="STEM")
    options = parser.parse_args()
    plot(json.loads(options.result.read_text(encoding="utf-8")), options.output)


if __name__ == "__main__":
    main()
