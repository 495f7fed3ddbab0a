"""The sections of a page that show graphs: boxes by layer, coupled groups, treemaps."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil

from irprune.picture.model import Picture
from irprune.picture.svg import drawing, marks, summary
from irprune.picture.treemap_svg import treemaps_svg
from irprune.picture.words import NAMES
from irprune.report.svg import legend

_TREES = ("params", "flops", "time")


def picture_section(pictures: Sequence[Picture]) -> str:
    """Pictures side by side with their switches, and the coupled groups; empty without any."""
    if not pictures:
        return ""
    names = list(dict.fromkeys(g.name for p in pictures for g in p.groups))
    keys = {name: i for i, name in enumerate(names)}
    panels = "".join(
        f'<figure><figcaption>{escape(summary(p))}</figcaption><div class="scroll">'
        f'<svg viewBox="0 0 {ceil(p.width)} {ceil(p.height)}" class="irp" role="img"'
        f' aria-label="Graph {escape(p.name)}" style="max-width:{ceil(1.25 * p.width)}px">'
        f"{drawing(p, keys)}</svg></div></figure>"
        for p in pictures
    )
    return (
        "<h2>Graph</h2><p>One band for each layer, read from left to right. Stripes are blocks,"
        " coloured by l, as long as there are channels. Pills at the left take in what other bands"
        " make. Point at a box for its type, blocks, FLOPs and what it reads.</p>"
        f'<section class="irp-fig irp-wide"><div class="bar">{_switches(pictures)}'
        f"{_groups(pictures, keys)}</div>{legend(marks(pictures))}"
        f'<div class="panels">{panels}</div></section>'
    )


def treemap_section(pictures: Sequence[Picture]) -> str:
    """Treemaps of parameters, FLOPs and, where it was measured, time; one is shown at a time."""
    found = {
        m: svg
        for m in _TREES
        if any(m in p.measures for p in pictures) and (svg := treemaps_svg(pictures, m))
    }
    if not found:
        return ""
    beside = " All areas are on one scale." if len(pictures) > 1 else ""
    return (
        f"<h2>Treemap</h2><p>The area of a tile is what a node takes; tiles of a layer lie"
        f" together.{beside}</p>"
        '<section class="irp-fig irp-trees irp-wide">'
        + _radios("irp-tree", {m: NAMES[m] for m in found})
        + "".join(f'<div class="tree-{m}">{svg}</div>' for m, svg in found.items())
        + "</section>"
    )


def _switches(pictures: Sequence[Picture]) -> str:
    known = [m for m in NAMES if any(m in p.measures for p in pictures)]
    boxes = [
        ("irp-frozen", "values of which nothing can be removed"),
        ("irp-plain", "values without irreps"),
    ]
    if len(pictures) > 1:
        boxes.append(("irp-beside", "side by side"))
    return _radios("irp-measure", {m: NAMES[m] for m in known}) + (
        '<p class="controls">'
        + "".join(
            f'<label><input type="checkbox" class="{cls}" checked> {text}</label>'
            for cls, text in boxes
        )
        + "</p>"
    )


def _radios(name: str, choices: dict[str, str]) -> str:
    """Exclusive choices, the first one taken."""
    return (
        '<p class="controls">'
        + "".join(
            f'<label><input type="radio" name="{name}" value="{value}"{"" if i else " checked"}>'
            f" {escape(text)}</label>"
            for i, (value, text) in enumerate(choices.items())
        )
        + "</p>"
    )


def _groups(pictures: Sequence[Picture], keys: dict[str, int]) -> str:
    """A button for each axis, with how many groups it has in each picture."""
    if not keys:
        return '<p class="dim">Nothing in this graph can be pruned: it has no coupled groups.</p>'
    items = []
    for name, key in keys.items():
        found = [next((g for g in p.groups if g.name == name), None) for p in pictures]
        one = next(g for g in found if g is not None)
        counts = " → ".join(
            "–" if g is None else f"{g.kept} of {g.size}" if g.kept < g.size else str(g.size)
            for g in found
        )
        items.append(
            f'<li><button type="button" data-group="{key}" aria-pressed="false" disabled>'
            f"{escape(name)}</button> <small>{escape(one.kind)}, {counts}</small></li>"
        )
    return (
        f"<details><summary>Coupled groups of {len(keys)} axes: blocks that are kept or removed"
        " together. Choose one to see where it is.</summary>"
        f'<ul class="groups">{"".join(items)}</ul></details>'
    )
