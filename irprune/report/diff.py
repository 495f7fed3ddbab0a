"""A comparison of two graphs as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from irprune.difference.result import BlockChange, GraphDiff, line
from irprune.report.model import number


def blocks_table(changes: Sequence[BlockChange], heading: str) -> Table:
    """Blocks before and after, one row for each irrep of a layer, or for each axis."""
    table = Table(box=None, pad_edge=False)
    table.add_column(heading, overflow="fold")
    table.add_column("kind")
    table.add_column("irrep")
    for name in ("before", "after", "went"):
        table.add_column(name, justify="right")
    for c in changes:
        went = c.before - c.after
        table.add_row(
            c.where, c.kind, c.irrep, str(c.before), str(c.after), str(went) if went else "–"
        )
    return table


def diff_group(found: GraphDiff, sizes: Any) -> Group:
    """All of it: sizes, blocks by layer and l, axes, nodes that went, came and changed."""
    parts: list[Any] = [sizes]
    if found.layers:
        parts += ["", blocks_table(found.layers, "layer")]
    if found.axes:
        parts += ["", blocks_table(found.axes, "axis")]
    for title, mark, colour, nodes in (
        ("removed", "-", "red", found.removed),
        ("added", "+", "green", found.added),
    ):
        if nodes:
            params = number(sum(n.params for n in nodes))
            parts += ["", f"{len(nodes)} nodes {title}, {params} parameters"]
            parts += [Text(f"{mark} {line(n)}", colour) for n in nodes]
    if found.changed:
        parts += ["", f"{len(found.changed)} nodes changed"]
    for change in found.changed:
        parts.append(Text(f"~ %{change.before.name} {change.before.op}", "yellow"))
        parts += [Text(f"    {text}") for text in change.describe()]
    if found.equal:
        parts += ["", "nothing differs"]
    return Group(*parts)
