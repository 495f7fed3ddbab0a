"""Pictures of importance: a heat map of blocks by layer and irrep, and a violin for each order l."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from irprune.report.model import Scores
from irprune.report.svg import LEFT, WIDTH, LogAxis, label_at, order_class, picture

_MAX_CELLS = 160
_LEVELS = 20
_ROW = 15.0
_HALF = 20.0
"""Half the height of a violin where it is widest."""
_POINTS = 80


def heat_map(scores: Scores) -> str:
    """A row for each layer and irrep, a cell for each block, the most important first.

    The darker, the more important, on one logarithmic scale; cells that look alike are one shape.
    """
    axis = LogAxis.of(v for layer in scores.values() for vs in layer.values() for v in vs)
    if axis is None:
        return ""
    longest = max(len(vs) for layer in scores.values() for vs in layer.values())
    step = math.ceil(longest / _MAX_CELLS)
    width = (WIDTH - LEFT - 20) / math.ceil(longest / step)
    body, y = _scale(axis), 26.0
    for layer, by_irrep in scores.items():
        body.append(label_at(LEFT, y + 10, layer, "strong"))
        y += _ROW
        for ir, values in by_irrep.items():
            body.append(label_at(LEFT - 8, y + 11, f"{len(values)}x{ir}", "dim", "end"))
            body += _cells(f"{layer}, {ir}", values, axis, step, width, y)
            y += _ROW
        y += 7
    return picture(WIDTH, y, body, "Importance of blocks, sorted, by layer and irrep")


def _cells(
    what: str, values: Sequence[float], axis: LogAxis, step: int, width: float, y: float
) -> list[str]:
    ranked = sorted(values, reverse=True)
    bins = [ranked[i : i + step] for i in range(0, len(ranked), step)]
    levels = [round(axis.share(_middle(b)) * _LEVELS) for b in bins]
    out = []
    for level, members in groupby(range(len(bins)), key=lambda i: levels[i]):
        run = list(members)
        first, last = run[0] * step, min((run[-1] + 1) * step, len(ranked)) - 1
        out.append(
            f'<rect x="{LEFT + run[0] * width:.2f}" y="{y:.1f}" width="{len(run) * width:.2f}"'
            f' height="{_ROW - 2:.0f}" class="heat" fill-opacity="{0.04 + 0.96 * level / _LEVELS:.2f}">'
            f"<title>{escape(what)}: blocks {first + 1} to {last + 1},"
            f" {ranked[first]:.2e} to {ranked[last]:.2e}</title></rect>"
        )
    return out


def _middle(values: Sequence[float]) -> float:
    """The one in the middle of a sorted run."""
    return values[len(values) // 2]


def _scale(axis: LogAxis) -> list[str]:
    """What the shades mean, as a row of swatches on top."""
    exponents = range(axis.low, axis.high + 1, max(1, (axis.high - axis.low) // 6))
    out = []
    for i, t in enumerate(exponents):
        x = LEFT + 72.0 * i
        shade = 0.04 + 0.96 * axis.share(10.0**t)
        out.append(
            f'<rect x="{x:.1f}" y="2" width="14" height="12" class="heat"'
            f' fill-opacity="{shade:.2f}"/>'
        )
        out.append(label_at(x + 19, 12, f"1e{t}", "dim"))
    return out


def violins(scores: Scores) -> str:
    """One violin for each order l: how the importance of its blocks is distributed over decades.

    Over all layers and parities; the line is the median. Blocks of importance zero are counted in
    the label, as no logarithm has room for them.
    """
    axis = LogAxis.of(v for layer in scores.values() for vs in layer.values() for v in vs)
    if axis is None:
        return ""
    by_order: dict[int, list[float]] = {}
    for layer in scores.values():
        for ir, values in layer.items():
            by_order.setdefault(int(ir[:-1]), []).extend(values)
    body: list[str] = []
    y = 20.0 + _HALF
    for order, values in sorted(by_order.items()):
        positive = np.array([v for v in values if v > 0])
        zero = len(values) - len(positive)
        body.append(label_at(LEFT - 8, y, f"l = {order}", "strong", "end"))
        counted = f"{len(values)} blocks" + (f", {zero} at 0" if zero else "")
        body.append(label_at(LEFT - 8, y + 14, counted, "dim", "end"))
        if len(positive):
            body += _violin(order, np.log10(positive), axis, y)
        y += 2 * _HALF + 10
    bottom = y - _HALF
    return picture(WIDTH, bottom, axis.ticks(bottom) + body, "Importance of blocks by order l")


def _violin(order: int, logs: NDArray[np.float64], axis: LogAxis, y: float) -> list[str]:
    """The outline of a density of exponents, as tall as it may be where it is largest."""
    at, density = log_density(logs)
    heights = _HALF * density / density.max()
    xs = [axis.at(10.0**t) for t in at]
    upper = [f"{x:.1f},{y - h:.1f}" for x, h in zip(xs, heights, strict=True)]
    lower = [f"{x:.1f},{y + h:.1f}" for x, h in zip(xs, heights, strict=True)]
    median = float(np.median(logs))
    x = axis.at(10.0**median)
    return [
        f'<polygon points="{" ".join([*upper, *reversed(lower)])}" class="{order_class(order)}">'
        f"<title>l = {order}: {len(logs)} blocks, median {10**median:.2e},"
        f" {10 ** logs.min():.2e} to {10 ** logs.max():.2e}</title></polygon>",
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - _HALF / 2:.1f}" y2="{y + _HALF / 2:.1f}"'
        ' class="median"/>',
    ]


def log_density(
    logs: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where, and how dense, by Gaussians of Silverman's width, cut at the smallest and the largest.

    Args:
        logs: [n] exponents of ten.

    Returns:
        Points [_POINTS] and the density there, in blocks per decade up to a factor.
    """
    spread = float(np.std(logs))
    width = max(0.9 * spread * len(logs) ** -0.2, 0.05)
    at = np.linspace(logs.min() - width, logs.max() + width, _POINTS)
    return at, np.exp(-0.5 * ((at[:, None] - logs[None]) / width) ** 2).sum(axis=1)
