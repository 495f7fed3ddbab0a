"""A graph as a tree for a terminal: layers, and in them nodes with blocks coloured by l."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from irprune.picture.layers import in_order
from irprune.picture.model import Picture, Value
from irprune.picture.svg import summary
from irprune.picture.words import NAMES, said
from irprune.report.model import number

COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "bright_black")
"""For l = 0, 1, …; the last one for all above."""


def tree_of(picture: Picture) -> Tree:
    """Layers with their sums, then their nodes in graph order; values without irreps are counted."""
    root = Tree(Text(summary(picture), "bold"), guide_style="dim")
    values = [b.value for b in picture.boxes]
    for layer in in_order({v.name: v.layer for v in values}):
        mine = [v for v in values if v.layer == layer]
        about = (
            f"  {number(sum(v.params for v in mine))} parameters,"
            f" {number(sum(v.flops for v in mine))} FLOPs per atom"
        )
        branch = root.add(Text.assemble((layer, "bold"), (about, "dim")))
        for v in mine:
            if not v.plain:
                branch.add(_line(v, picture.measures))
        plain = [v for v in mine if v.plain]
        if plain:
            holding = sum(v.params for v in plain)
            more = f", {number(holding)} parameters" if holding else ""
            branch.add(Text(f"{len(plain)} values without irreps{more}", "dim italic"))
    return root


def _line(v: Value, measures: tuple[str, ...]) -> Text:
    """``name  op  64x0e+32x1o of 128x0e+…  parameters  FLOPs``."""
    name = v.called.removeprefix("model.") if v.kind == "module" else v.name
    out = Text.assemble((name, "" if v.wide else "dim"), (f"  {v.op}  ", "dim"))
    for i, s in enumerate(v.stripes):
        colour = COLOURS[min(s.order, len(COLOURS) - 1)]
        gone = f" of {s.before}" if s.before > s.now else ""
        out.append("+" if i else "", "dim")
        out.append(f"{s.now}x{s.ir}{gone}", colour if s.now else "strike dim")
    for m in measures:
        text = said(v, m) if m != "irreps" else ""
        if text:
            out.append(f"  {text}" if m != "score" else f"  {NAMES[m]} {text}", "dim")
    if v.frozen:
        out.append("  frozen", "dim italic")
    if v.why:
        out.append(f"  barrier: {v.why}", "red")
    return out
