"""The pictures: kernels by share of channels, and models by number of atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.report.figures import best_other, ours

COLOURS = ("#d1495b", "#1b6ca8", "#2e8b57", "#7b5ea7", "#c78c06", "#555555")


def pictures(found: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """Draws what there are results of, as SVG and PNG; gives the SVGs."""
    drawn = []
    if any(r.get("ns_per_row") for r in found.get("kernels", {}).get("results", ())):
        drawn.append(_kernels(found["kernels"], folder / "kernels"))
    if any(r.get("microseconds_per_atom") for r in found.get("models", {}).get("results", ())):
        drawn.append(_models(found["models"], folder / "models"))
    return drawn


def _kernels(found: Mapping[str, Any], stem: Path) -> Path:
    """A panel per layer: forward and backward of ours and of the best other, ns per row."""
    rows = [r for r in found["results"] if r.get("ns_per_row")]
    layers = list(dict.fromkeys(r["layer"] for r in rows))
    figure, axes = _panels(len(layers))
    for axis, layer in zip(axes, layers, strict=True):
        for shape, style in (("aligned", "-"), ("odd", ":")):
            mine = [r for r in rows if r["layer"] == layer and r["shape"] == shape]
            for mode, colours in (("forward", COLOURS[:2]), ("backward", COLOURS[2:4])):
                points: dict[str, list[tuple[float, float]]] = {"ours": [], "best other": []}
                for r in sorted(mine, key=lambda r: float(r["keep"])):
                    times = r["ns_per_row"].get(mode, {})
                    first, other = ours(times), best_other(times)
                    if first is not None:
                        points["ours"].append((r["keep"], first))
                    if other is not None:
                        points["best other"].append((r["keep"], other[1]))
                for (name, line), colour in zip(points.items(), colours, strict=True):
                    label = f"{name}, {mode}" if shape == "aligned" else None
                    _line(axis, line, style, colour, label)
        even = [r for r in rows if r["layer"] == layer and r["shape"] == "aligned"]
        least = sorted((r["keep"], r["least_ns_per_row"]) for r in even)
        _line(axis, least, "--", "0.7", "bytes of forward / bandwidth")
        axis.set_yscale("log")
        axis.set_title(layer, fontsize=9)
        axis.set_xlabel("share of channels (dotted: odd counts)", fontsize=8)
    axes[0].set_ylabel("ns per edge (atom)")
    axes[0].legend(fontsize=6, frameon=False)
    return _save(figure, stem)


def _models(found: Mapping[str, Any], stem: Path) -> Path:
    """A panel per model: µs per atom of every way."""
    rows = [r for r in found["results"] if r.get("microseconds_per_atom")]
    names = list(dict.fromkeys(r["model"] for r in rows))
    figure, axes = _panels(len(names))
    for axis, model in zip(axes, names, strict=True):
        mine = [r for r in rows if r["model"] == model]
        ways = list(dict.fromkeys(w for r in mine for w in r["microseconds_per_atom"]))
        for colour, way in zip(COLOURS, ways, strict=False):
            times = ((r["atoms"], r["microseconds_per_atom"].get(way)) for r in mine)
            _line(axis, [(n, t) for n, t in times if t is not None], "-", colour, way)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(model, fontsize=9)
        axis.set_xlabel("atoms")
        axis.legend(fontsize=6, frameon=False)
    axes[0].set_ylabel("µs per atom: energy, forces, stress")
    return _save(figure, stem)


def _panels(count: int) -> tuple[Any, Sequence[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "irprune"
    figure, axes = plt.subplots(
        1, count, figsize=(3.4 * count, 3.2), squeeze=False, sharey=False, layout="constrained"
    )
    return figure, list(axes[0])


def _line(
    axis: Any, points: Sequence[tuple[float, float]], style: str, colour: str, label: str | None
) -> None:
    if points:
        x, y = zip(*points, strict=True)
        axis.plot(x, y, style, color=colour, marker="o", markersize=3, label=label)


def _save(figure: Any, stem: Path) -> Path:
    from matplotlib import pyplot as plt

    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(stem.with_suffix(".png"), dpi=130, metadata={"Software": None})
    plt.close(figure)
    return stem.with_suffix(".svg")
