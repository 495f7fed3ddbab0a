"""Treemaps as SVG: several models side by side on one scale of area."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import sqrt

from irprune.picture.model import Picture
from irprune.picture.treemap import Tile, Treemap, treemap_of
from irprune.picture.words import NAMES, millis
from irprune.report.model import number, ratio
from irprune.report.svg import label_at, legend

WIDTH = 620.0
HEIGHT = 380.0
COLOURS = 5
"""How many ops have a colour of their own; the others share the last one."""
_TITLE = 22.0
_SPACE = 24.0
_LETTER = 6.2


def treemaps_svg(pictures: Sequence[Picture], measure: str) -> str:
    """One treemap for each picture, the largest as large as there is room; and what colours mean."""
    totals = [p.total(measure) for p in pictures]
    largest = max(totals, default=0.0)
    if largest <= 0:
        return ""
    width = WIDTH if len(pictures) > 1 else 2 * WIDTH + _SPACE
    ops = _ranked(pictures, measure)
    parts, x = [], 0.0
    for p, total in zip(pictures, totals, strict=True):
        share = sqrt(total / largest)
        found = treemap_of(p, measure, width * share, HEIGHT * share)
        beside = ratio(total, totals[0]) if p is not pictures[0] else ""
        lead = f"{p.name}: " if p.name else ""
        parts.append(label_at(x, 14, f"{lead}{amount(total, measure)} {beside}".strip(), "head"))
        parts.append(f'<g transform="translate({x:g} {_TITLE:g})">{_tiles(found, ops)}</g>')
        x += width + _SPACE
    height = HEIGHT + _TITLE + 2
    svg = (
        f'<svg viewBox="0 0 {x - _SPACE:g} {height:g}" class="irp tree" role="img"'
        f' aria-label="{escape(NAMES[measure])} by layer and node">{"".join(parts)}</svg>'
    )
    marks = [(f"c{i}", op) for i, op in enumerate(ops[:COLOURS])]
    return legend([*marks, *([(f"c{COLOURS}", "other ops")] if len(ops) > COLOURS else [])]) + svg


def amount(value: float, measure: str) -> str:
    """A sum with its unit: ``842,623 parameters``, ``12.5 ms``."""
    if measure == "time":
        return millis(value)
    return f"{_plain(value)} {NAMES[measure]}"


def _ranked(pictures: Sequence[Picture], measure: str) -> list[str]:
    """Ops by what they take in all pictures, the most first."""
    sums: dict[str, float] = {}
    for p in pictures:
        for b in p.boxes:
            value = b.value.measure(measure) or 0.0
            if value > 0:
                sums[b.value.op] = sums.get(b.value.op, 0.0) + value
    return sorted(sums, key=lambda op: -sums[op])


def _tiles(found: Treemap, ops: Sequence[str]) -> str:
    out = []
    for t in found.nodes:
        r = t.rect
        colour = min(ops.index(t.op), COLOURS)
        out.append(
            f'<g class="tile" data-n="{escape(t.name)}"><rect class="c{colour}" x="{r.x:.2f}"'
            f' y="{r.y:.2f}" width="{r.width:.2f}" height="{r.height:.2f}"/>'
            f"{_label(t, found.measure)}<title>{escape(_title(t, found))}</title></g>"
        )
    for t in found.layers:
        r = t.rect
        out.append(
            f'<rect class="around" x="{r.x:.2f}" y="{r.y:.2f}" width="{r.width:.2f}"'
            f' height="{r.height:.2f}"/>'
        )
        if r.width > _LETTER * len(t.name) + 8 and r.height > 15:
            out.append(label_at(r.x + 5, r.bottom - 5, t.name, "layer"))
    return "".join(out)


def _label(t: Tile, measure: str) -> str:
    """The op and the number, where they fit above the name of the layer."""
    r, out = t.rect, ""
    if r.width > _LETTER * len(t.op) + 8 and r.height > 34:
        out = label_at(r.x + 5, r.y + 14, t.op, "inside")
        value = millis(t.value) if measure == "time" else _plain(t.value)
        if r.height > 48 and r.width > _LETTER * len(value) + 8:
            out += label_at(r.x + 5, r.y + 27, value, "inside thin")
    return out


def _plain(value: float) -> str:
    return number(int(value) if value == int(value) else value)


def _title(t: Tile, found: Treemap) -> str:
    return (
        f"{t.name}: {t.op} in {t.layer}\n{amount(t.value, found.measure)},"
        f" {100 * t.value / found.total:.1f} % of the model"
    )
