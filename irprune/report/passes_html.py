"""The log of the passes: sizes before and after each, and what it changed, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from irprune.report.model import Report, number
from irprune.report.tables import html_table

_SIZES = (
    ("params", "params"),
    ("flops_per_atom", "FLOPs per atom"),
    ("blocks", "blocks"),
    ("nodes", "nodes"),
)


def passes_section(report: Report) -> str:
    """Empty where no pass ran."""
    if not report.passes:
        return ""
    sizes = [(key, title) for key, title in _SIZES if any(key in p for p in report.passes)]
    rows = []
    for p in report.passes:
        rows.append(
            [
                f"<code>{escape(str(p['text']))}</code>",
                escape(str(p["trait"])),
                *(_change(p, key) for key, _ in sizes),
                f"{p['seconds']:.1f}",
            ]
        )
    head = ["pass", "claim", *(title for _, title in sizes), "seconds"]
    pipeline = f"<pre>{escape(report.pipeline)}</pre>" if report.pipeline else ""
    table = html_table(head, rows, range(2, len(head)))
    table = f'<div class="passes">{table}</div>'
    return f"<h2>Passes</h2>{pipeline}{table}{''.join(map(_changes, report.passes))}"


def _change(p: Mapping[str, Any], key: str) -> str:
    """The size after the pass; with that before where the pass changed it."""
    after, before = p.get(key), p.get(f"{key}_before")
    if before is None or before == after:
        return f'<span class="dim">{number(after)}</span>' if before is not None else number(after)
    return f"{number(before)} → {number(after)}"


def _changes(p: Mapping[str, Any]) -> str:
    """What the pass did to the graph, to be opened; nothing where it was not recorded."""
    found = p.get("changes")
    if found is None:
        return ""
    said = f"<code>{escape(str(p['text']))}</code>: {escape(found['summary'])}"
    if not found["lines"]:
        return f"<p>{said}</p>"
    text = escape("\n".join(found["lines"]))
    return f'<details><summary>{said}</summary><pre class="wrap">{text}</pre></details>'
