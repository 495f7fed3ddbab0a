"""The same report as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from irprune.report.model import Report, number, ratio


def comparison_table(report: Report) -> Table:
    """Models side by side."""
    table = Table(title=report.title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in report.models:
        table.add_column(name, justify="right")
    for row in report.rows:
        cells = []
        for i, value in enumerate(row.values):
            beside = ratio(value, row.values[0]) if row.compare and i else ""
            cells.append(f"{number(value)} {beside}".strip())
        table.add_row(f"{row.quantity} {f'[{row.unit}]' if row.unit else ''}".strip(), *cells)
    return table


def irreps_table(before: Mapping[str, str], after: Mapping[str, str] | None = None) -> Table:
    """Irreps per layer, and what became of them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    table.add_column("irreps", overflow="fold")
    if after is not None:
        table.add_column("after", overflow="fold")
    for layer in dict.fromkeys([*before, *(after or {})]):
        cells = [before.get(layer, "–")]
        if after is not None:
            cells.append(after.get(layer, "–"))
        table.add_row(layer, *cells)
    return table


def checks_table(checks: Iterable[Mapping[str, Any]]) -> Table:
    """Name, measured value, tolerance, verdict."""
    table = Table(box=None, pad_edge=False)
    table.add_column("check")
    table.add_column("measured", justify="right")
    table.add_column("tolerance", justify="right")
    table.add_column("")
    for check in checks:
        verdict = Text("ok", "green") if check["ok"] else Text("FAILED", "bold red")
        table.add_row(check["name"], _number(check["value"]), _number(check["tolerance"]), verdict)
    return table


def passes_table(passes: Iterable[Mapping[str, Any]]) -> Table:
    """What each pass changed."""
    table = Table(box=None, pad_edge=False)
    table.add_column("pass", overflow="fold")
    table.add_column("claim", overflow="fold")
    for heading in ("params", "FLOPs/atom", "blocks", "s", "peak MB", "added"):
        table.add_column(heading, justify="right")
    for p in passes:
        table.add_row(
            Text(p["text"]),
            p["trait"],
            number(p["params"]),
            number(p["flops_per_atom"]),
            number(p["blocks"]),
            f"{p['seconds']:.1f}",
            _megabytes(p.get("peak_memory")),
            _megabytes(p.get("memory_added")),
        )
    return table


def _megabytes(value: int | None) -> str:
    return "–" if value is None else f"{value / 1e6:.0f}"


def print_report(report: Report, console: Console) -> None:
    """All tables that have something to say."""
    parts: list[Any] = [comparison_table(report)]
    if report.irreps:
        after = report.irreps[1] if len(report.irreps) > 1 else None
        parts += ["", irreps_table(report.irreps[0], after)]
    if report.checks:
        parts += ["", checks_table(report.checks)]
    if report.tier:
        parts += ["", Text(f"export tier: {report.tier}")]
    console.print(Group(*parts))


def _number(value: Any) -> str:
    return f"{value:.2e}" if isinstance(value, int | float) else str(value)
