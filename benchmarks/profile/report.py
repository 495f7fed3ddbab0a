"""Tables of a result: python -m benchmarks.profile.report RESULT.json [--write README]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.table import command_line, line, measured_with

SMALL = 0.005
"""Ops with less than this share of the call, before and after, stand together."""
HEAD = (
    "op", "nodes before", "after", "% of the call before", "after", "% of peak before", "after",
)  # fmt: skip


def table(result: Mapping[str, Any]) -> str:
    """For each model a sentence and a table of its ops; then what it was measured with."""
    out = []
    for found in result["results"]:
        out += [_said(found), "", line(HEAD), line(["---"] * len(HEAD)), *_rows(found), ""]
    return "\n".join([*out, f"{measured_with(result)}."])


def _said(found: Mapping[str, Any]) -> str:
    ratio, before, after = found["ratio"], found["before"], found["after"]
    threads = f"{before['threads']} thread{'' if before['threads'] == 1 else 's'}"
    return (
        f"**{found['model']}** on {found['crystal']}, {found['atoms']} atoms, {before['edges']:,}"
        f" edges, {before['dtype']}, {threads}. Time of a call, after / before:"
        f" **{ratio['median']:.3f}** [{ratio['q1']:.3f}, {ratio['q3']:.3f}],"
        f" {len(ratio['ratios'])} rounds in turn. Nodes: {_nodes(before)} before, {_nodes(after)}"
        " after."
    )


def _nodes(side: Mapping[str, Any]) -> int:
    return sum(row["nodes"] for row in side["ops"])


def _rows(found: Mapping[str, Any]) -> list[str]:
    """Ops by their larger share; small ones together; last, what is outside all nodes."""
    sides = [{row["op"]: row for row in found[side]["ops"]} for side in ("before", "after")]
    largest = {
        op: max(_share(side.get(op)) for side in sides)
        for op in dict.fromkeys(op for side in sides for op in side)
    }
    ops = sorted(largest, key=lambda op: -largest[op])
    shown = [op for op in ops if largest[op] >= SMALL]
    rest = [op for op in ops if largest[op] < SMALL]
    made = [line([f"`{op}`", *_cells([side.get(op) for side in sides])]) for op in shown]
    if rest:
        sums = [_sum([side[op] for op in rest if op in side]) for side in sides]
        made.append(line([f"{len(rest)} other{'' if len(rest) == 1 else 's'}", *_cells(sums)]))
    outside = [f"{100 * found[side]['outside']:.1f}" for side in ("before", "after")]
    return [*made, line(["outside nodes", "", "", *outside, "", ""])]


def _share(row: Mapping[str, Any] | None) -> float:
    share: float = row["forward"] + row["backward"] if row else 0.0
    return share


def _sum(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Several ops as one, without a share of the peak."""
    sums = {key: sum(row[key] for row in rows) for key in ("nodes", "forward", "backward")}
    return {**sums, "share_of_peak": None} if rows else None


def _cells(rows: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Nodes, share of the call, share of the peak: each before and after; empty without the op."""
    nodes = [str(row["nodes"]) if row else "" for row in rows]
    shares = [f"{100 * _share(row):.1f}" if row else "" for row in rows]
    peaks = [
        f"{100 * row['share_of_peak']:.0f}" if row and row["share_of_peak"] is not None else ""
        for row in rows
    ]
    return [*nodes, *shares, *peaks]


if __name__ == "__main__":
    command_line(table, __doc__)
