"""Pictures of a report as inline SVG; colours are CSS classes, so that they follow the theme.

No fonts, scripts or addresses from outside: the page must be readable without a network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import ClassVar

from irprune.irreps import IrrepsType
from irprune.report.model import Scores, number
from irprune.report.profile import Group, Times, millis, percent

WIDTH = 760
LEFT = 150
_MAX_POINTS = 300
_LETTERS = 20
"""What fits to the left of a bar."""


def order_class(order: int) -> str:
    """The CSS class that colours an order l."""
    return f"l{min(order, 5)}"


def picture(width: float, height: float, body: Sequence[str], label: str) -> str:
    """An SVG element of shapes, with a label for those who do not see it."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}"'
        f' style="max-width:{width:.0f}px">{"".join(body)}</svg>'
    )


def label_at(x: float, y: float, text: str, cls: str = "", anchor: str = "start") -> str:
    """A line of text."""
    mark = f' class="{cls}"' if cls else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{mark}>{escape(text)}</text>'


def irreps_bars(models: Sequence[Mapping[str, str]], names: Sequence[str]) -> str:
    """For each layer one bar per model: a segment per irrep, as wide as its components."""
    layers = list(dict.fromkeys(layer for model in models for layer in model))
    types = {
        (i, layer): IrrepsType.parse(text)
        for i, model in enumerate(models)
        for layer, text in model.items()
    }
    widest = max((t.dim for t in types.values()), default=1) or 1
    scale = (WIDTH - LEFT - 10) / widest
    body, y = [], 6.0
    for layer in layers:
        body.append(label_at(LEFT - 8, y + 14, layer, "strong", "end"))
        for i, name in enumerate(names):
            x = float(LEFT)
            kept = types.get((i, layer))
            if i:
                body.append(label_at(LEFT - 8, y + 14, name, "dim", "end"))
            for s in kept or ():
                width = s.mul * s.dim * scale
                body.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width - 1, 0.5):.1f}" height="19"'
                    f' rx="2" class="{order_class(s.l)}"><title>{escape(layer)}, {escape(name)}:'
                    f" {s}, {s.mul * s.dim} components</title></rect>"
                )
                if width > 8 * len(str(s)):
                    body.append(label_at(x + width / 2, y + 13.5, str(s), "inside", "middle"))
                x += width
            if kept is None or not kept.n_units:
                body.append(label_at(x + 2, y + 14, "nothing left" if kept else "–", "dim"))
            y += 22
        y += 9
    return picture(WIDTH, y, body, "Irreps of each layer")


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic axis from left to right; what is smaller than its low end stands there."""

    low: int
    """Exponent of ten."""
    high: int

    right: ClassVar[float] = WIDTH - 20

    @classmethod
    def of(cls, values: Iterable[float]) -> LogAxis | None:
        """An axis for the positive ones, over twelve decades at most; None where there is none."""
        finite = [v for v in values if 0 < v < math.inf]
        if not finite:
            return None
        top = math.log10(max(finite))
        low = max(math.floor(math.log10(min(finite))), math.ceil(top) - 12)
        return cls(low, max(math.ceil(top), low + 1))

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        position = math.log10(value) if value > 0 else self.low
        return (min(max(position, self.low), self.high) - self.low) / (self.high - self.low)

    def at(self, value: float) -> float:
        return LEFT + (self.right - LEFT) * self.share(value)

    def ticks(self, bottom: float) -> list[str]:
        """Lines at powers of ten, with their numbers on top."""
        out = []
        for t in range(self.low, self.high + 1, max(1, (self.high - self.low) // 6)):
            x = self.at(10.0**t)
            out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{bottom:.0f}" class="grid"/>')
            out.append(label_at(x, 10, f"1e{t}", "dim", "middle"))
        return out


def _subsample(values: Sequence[float], kept: Sequence[bool] | None) -> list[tuple[float, bool]]:
    pairs = sorted(zip(values, kept or [True] * len(values), strict=False), key=lambda p: p[0])
    step = max(1, math.ceil(len(pairs) / _MAX_POINTS))
    return pairs[::step]


def score_strips(scores: Scores, kept: Mapping[str, Mapping[str, Sequence[bool]]]) -> str:
    """One strip per layer and irrep: a dot for each block on a logarithmic axis."""
    axis = LogAxis.of(v for layer in scores.values() for vs in layer.values() for v in vs)
    if axis is None:
        return ""
    body: list[str] = []
    y = 24.0
    for layer, by_irrep in scores.items():
        for n, (ir, values) in enumerate(by_irrep.items()):
            if n == 0:
                body.append(label_at(8, y + 4, layer, "strong"))
            body.append(label_at(LEFT - 8, y + 4, f"{len(values)}x{ir}", "dim", "end"))
            body.append(f'<line x1="{LEFT}" x2="{axis.right}" y1="{y}" y2="{y}" class="grid"/>')
            cls = order_class(int(ir[:-1]))
            points = _subsample(values, kept.get(layer, {}).get(ir))
            for k, (value, stays) in enumerate(points):
                shift = ((k * 7) % 11 - 5) * 0.9
                state = "kept" if stays else "removed"
                body.append(
                    f'<circle cx="{axis.at(value):.1f}" cy="{y + shift:.1f}" r="2.4"'
                    f' class="{cls} {state}"><title>{value:.2e}, {state}</title></circle>'
                )
            y += 20
        y += 8
    return picture(
        WIDTH, y + 4, axis.ticks(y) + body, "Importance of each block, by layer and irrep"
    )


def curve(points: Sequence[tuple[float, float]], label: str = "loss") -> str:
    """A line over steps, logarithmic in y."""
    usable = [(x, y) for x, y in points if y > 0 and math.isfinite(y)]
    if len(usable) < 2:
        return ""
    height, bottom, top = 220.0, 190.0, 14.0
    xs = [x for x, _ in usable]
    logs = [math.log10(y) for _, y in usable]
    low, high = min(logs), max(logs)
    pad = max(0.05, 0.08 * (high - low))
    low, high = low - pad, high + pad
    left, right = 70.0, WIDTH - 20.0

    def place(x: float, log: float) -> str:
        across = (x - xs[0]) / ((xs[-1] - xs[0]) or 1)
        return (
            f"{left + (right - left) * across:.1f},"
            f"{bottom - (bottom - top) * (log - low) / (high - low):.1f}"
        )

    body = []
    for i in range(5):
        level = low + (high - low) * i / 4
        y = bottom - (bottom - top) * i / 4
        body.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        body.append(label_at(left - 8, y + 4, f"{10**level:.2g}", "dim", "end"))
    path = " ".join(place(x, log) for x, log in zip(xs, logs, strict=True))
    body.append(f'<polyline points="{path}" class="line"/>')
    body.append(label_at(left, bottom + 18, f"step {number(xs[0])}", "dim"))
    body.append(label_at(right, bottom + 18, f"step {number(xs[-1])}", "dim", "end"))
    body.append(label_at(left + 4, top + 2, label, "strong"))
    return picture(WIDTH, height, body, f"{label} over steps")


def time_bars(groups: Sequence[Group], names: Sequence[str], calls: Sequence[float]) -> str:
    """For each op one bar per model, all on one scale in milliseconds; its share of the call beside.

    Args:
        groups: from the top down.
        names: of the models.
        calls: seconds of a call of each model.
    """
    longest = max((bar.total for g in groups for bar in g.bars if bar is not None), default=0.0)
    scale = (WIDTH - LEFT - 60) / (longest or 1.0)
    body, y = [], 24.0
    for group in groups:
        for i, (bar, name, call) in enumerate(zip(group.bars, names, calls, strict=True)):
            label, cls = (name, "dim") if i else (group.label, "strong")
            body.append(label_at(LEFT - 8, y + 12, _short(label), cls, "end"))
            if bar is None:
                body.append(label_at(LEFT + 2, y + 12, "–", "dim"))
            else:
                body += _time_bar(bar, f"{group.label}, {name}", y, scale, call)
            y += 18
        y += 8
    axis = []
    for tick in _ticks(longest):
        x = LEFT + tick * scale
        axis.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{y:.0f}" class="grid"/>')
        axis.append(label_at(x, 10, f"{tick * 1e3:g} ms", "dim", "middle"))
    return picture(WIDTH, y, axis + body, "Time of each op, forward and backward")


def _time_bar(bar: Times, what: str, y: float, scale: float, call: float) -> list[str]:
    out, x = [], float(LEFT)
    parts = {"forward": bar.forward, "backward": bar.backward, "outside": bar.outside}
    for cls, seconds in parts.items():
        if seconds > 0:
            out.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(seconds * scale, 0.5):.1f}" height="15"'
                f' rx="2" class="{cls}"><title>{escape(what)}: {cls} {millis(seconds)} ms,'
                f" {percent(seconds / call)} %</title></rect>"
            )
            x += seconds * scale
    return [*out, label_at(x + 6, y + 12, f"{percent(bar.total / call)} %", "dim")]


def _ticks(longest: float) -> list[float]:
    """At most six round numbers from 0 to the longest, in seconds."""
    if not longest > 0:
        return [0.0]
    step = 10.0 ** math.floor(math.log10(longest / 5))
    step *= next(m for m in (1, 2, 5, 10) if longest / (m * step) <= 5)
    return [k * step for k in range(int(longest / step) + 1)]


def _short(text: str) -> str:
    """The end of a long text: names of files differ there."""
    return text if len(text) <= _LETTERS else f"…{text[1 - _LETTERS :]}"


def legend(marks: Sequence[tuple[str, str]]) -> str:
    """Coloured squares with what they stand for: (CSS class, text)."""
    keys = "".join(
        f'<span class="key"><svg viewBox="-1 -1 14 14" class="swatch irp">'
        f'<rect width="12" height="12" rx="2" class="{cls}"/></svg>'
        f"{escape(text)}</span>"
        for cls, text in marks
    )
    return f'<p class="legend">{keys}</p>'


def order_legend(orders: Sequence[int]) -> str:
    """Marks for the orders that occur."""
    return legend([(order_class(order), f"l = {order}") for order in sorted(set(orders))])
