"""The answer of ``irprune profile`` as a report and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irprune.report.model import Report, Row
from irprune.report.profile import HEADINGS, OUTSIDE, cells, millis, percent, told, verdict
from irprune.versions import versions

if TYPE_CHECKING:
    from rich.console import Console

    from irprune.picture.model import Picture

Payload = Mapping[str, Any]


def names_of(payload: Payload) -> tuple[str, ...]:
    """The models as they are told apart: names of their files, unless these are equal."""
    given = [str(p["model"]) for p in profiles_of(payload)]
    short = [Path(name).name or name for name in given]
    return tuple(short if len(set(short)) == len(short) else given)


def profiles_of(payload: Payload) -> list[Payload]:
    """The model, and the other one where there is one."""
    return [p for p in (payload, payload["other"]) if p is not None]


def timed_pictures(
    graphs: Sequence[Any], profiles: Sequence[Payload], names: tuple[str, ...]
) -> tuple[Picture, ...]:
    """The graphs of one or two profiles, each node with the time that it took."""
    from irprune.picture.build import picture_of, pictures_of

    times = [{n["node"]: n["forward"] + n["backward"] for n in p["nodes"]} for p in profiles]
    if len(graphs) == 1:
        return (picture_of(graphs[0], names[0], times[0]),)
    return pictures_of(graphs[0], graphs[1], (names[0], names[1]), (times[0], times[1]))


def build_report(payload: Payload, top: int, pictures: tuple[Picture, ...] = ()) -> Report:
    """The page; ``payload`` is what ``--json`` prints, ``top`` the nodes to show in tables."""
    names, profiles = names_of(payload), profiles_of(payload)
    dtypes = ", ".join(dict.fromkeys(p["dtype"] for p in profiles))
    return Report(
        title=f"Profile of {' and '.join(names)}",
        summary=f"Energy, forces and stress of {payload['structure']}, repeated to"
        f" {payload['atoms']} atoms; {dtypes}.",
        models=names,
        rows=_rows(profiles, [1.0, payload["ratio"]] if payload["other"] else []),
        profile=tuple({**p, "nodes": p["nodes"][:top]} for p in profiles),
        ratios=tuple(payload["ratios"]),
        pictures=pictures,
        versions=versions(),
    )


def _rows(profiles: Sequence[Payload], ratios: Sequence[float]) -> tuple[Row, ...]:
    def row(quantity: str, unit: str, key: str, scale: float = 1.0) -> Row:
        return Row(
            quantity, unit, tuple(p[key] * scale if scale != 1 else p[key] for p in profiles)
        )

    rows = (
        row("atoms", "", "atoms"),
        row("edges", "", "edges"),
        row("threads", "", "threads"),
        row("one call", "ms", "seconds_call", 1e3),
        row("of which nodes", "ms", "seconds_nodes", 1e3),
        row(f"of which {OUTSIDE}", "ms", "seconds_outside", 1e3),
        row("one call, estimated by the cost model", "ms", "seconds_estimated", 1e3),
        row("neighbour list, beside the call", "ms", "seconds_neighbours", 1e3),
        row("peak of a matrix product", "GFLOP/s", "peak_flops", 1e-9),
        row("peak of a copy", "GB/s", "peak_bandwidth", 1e-9),
    )
    if not ratios:
        return rows
    return (*rows, Row("one call, ratio of times taken in turn", "", tuple(ratios)))


def print_profile(console: Console, payload: Payload, top: int) -> None:
    """Ops side by side where there are two models; then the nodes of each, and the sums."""
    names, profiles = names_of(payload), profiles_of(payload)
    several = len(names) > 1
    if several:
        console.print(_side_by_side(profiles))
        console.print("")
    for name, profile in zip(names, profiles, strict=True):
        if several:
            console.print(f"{name}\n", markup=False)
        for title, rows in (("op", profile["by_op"]), ("node", profile["nodes"][:top])):
            console.print(_table(title, rows, profile["seconds_call"]))
            console.print("")
    for name, profile in zip(names, profiles, strict=True):
        lead = f"{name}: " if several else ""
        console.print(lead + "\n".join(told(profile)), markup=False)
    if several:
        console.print(verdict(names, payload["ratios"]), markup=False)


def _table(title: str, rows: Sequence[Payload], call: float) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(title, overflow="fold")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(str(row[title]), *cells(row, call))
    return table


def _side_by_side(profiles: Sequence[Payload]) -> Any:
    """Per op: time, share of the call and of the peak, of the first model and of the second."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("op", overflow="fold")
    for which in ("first", "second"):
        for heading in (f"{which} ms", "% call", "% peak"):
            table.add_column(heading, justify="right")
    found = [{row["op"]: row for row in p["by_op"]} for p in profiles]
    for op in dict.fromkeys(op for by_op in found for op in by_op):
        line = []
        for by_op, profile in zip(found, profiles, strict=True):
            row = by_op.get(op)
            time = row["forward"] + row["backward"] if row else 0.0
            share = percent(time / profile["seconds_call"])
            line += [millis(time), share, f"{100 * row['share_of_peak']:.0f}"] if row else ["–"] * 3
        table.add_row(op, *line)
    return table
