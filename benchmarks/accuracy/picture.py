"""Pictures of an experiment: every seed a dot, means joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.report import ERRORS, measurements, rows


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Writes PATH.svg and PATH.png: errors against training compute, or against the number at the end
    of the arms' names where the experiment says what it is.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "irprune"
    shown = [k for k in ERRORS if any(k in r for r in rows(result))]
    if not shown:
        return
    draw = against_number if result.get("against") else against_compute
    figure, axes = pyplot.subplots(1, len(shown), figsize=(5 * len(shown), 4), squeeze=False)
    for axis, key in zip(axes[0], shown, strict=True):
        draw(result, axis, key)
        axis.set(yscale="log", ylabel=f"error of {ERRORS[key][0]}")
        axis.legend(fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_name(path.name + ".svg"), metadata={"Date": None})
    figure.savefig(path.with_name(path.name + ".png"), dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def against_compute(result: Mapping[str, Any], axis: Any, key: str) -> None:
    """One line per arm; what takes no training is a level."""
    scale = ERRORS[key][1]
    found = [r for r in rows(result) if key in r]
    for i, arm in enumerate(dict.fromkeys(r["arm"] for r in found)):
        own = sorted((r for r in found if r["arm"] == arm), key=lambda r: r["flops"])
        x, y = [r["flops"] / 1e12 for r in own], [r[key][0] * scale for r in own]
        if max(x) > 0:
            dots = [r for r in measurements(result) if r["arm"] == arm]
            given = [r["flops"] / 1e12 for r in dots], [r["test"][key] * scale for r in dots]
            _joined(axis, (x, y), given, color=f"C{i % 10}", label=arm)
        else:
            axis.axhline(y[0], color=f"C{i % 10}", linestyle="--", label=arm)
    axis.set(xscale="log", xlabel="training, TFLOP")


def against_number(result: Mapping[str, Any], axis: Any, key: str) -> None:
    """One line per kind of arm after its training, dashed before it: ``taylor 0.5`` is of the kind
    ``taylor`` at 0.5.
    """
    scale = ERRORS[key][1]
    found = [r for r in rows(result) if key in r]
    for i, kind in enumerate(dict.fromkeys(_named(r["arm"])[0] for r in found)):
        for steps in sorted({r["steps"] for r in found}):
            own = [r for r in found if _named(r["arm"])[0] == kind and r["steps"] == steps]
            dots = [
                r
                for r in measurements(result)
                if _named(r["arm"])[0] == kind and r["steps"] == steps
            ]
            means = sorted((_named(r["arm"])[1], r[key][0] * scale) for r in own)
            given = [(_named(r["arm"])[1], r["test"][key] * scale) for r in dots]
            label = f"{kind}, {steps} steps" if steps else None
            x, y = zip(*means, strict=True)
            style = "-" if steps else ":"
            _joined(axis, (x, y), tuple(zip(*given, strict=True)), style, f"C{i % 10}", label)
    axis.set(xlabel=f"{result['against']} (dotted: before training)")


def _joined(
    axis: Any,
    means: tuple[Sequence[float], Sequence[float]],
    dots: tuple[Sequence[float], ...],
    style: str = "-",
    color: str = "C0",
    label: str | None = None,
) -> None:
    axis.plot(*means, style, color=color, label=label)
    axis.plot(*dots, ".", color=color)


def _named(arm: str) -> tuple[str, float]:
    kind, _, number = arm.rpartition(" ")
    return kind, float(number)
