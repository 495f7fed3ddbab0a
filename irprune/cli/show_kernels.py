"""What ``irprune show`` says of kernels: what was chosen, who declined, what would be chosen here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def kernels_json(graph: Any) -> dict[str, Any] | None:
    """The plan that the graph holds, and under ``here`` which backend would be taken now where that is
    another one; None for a graph without a plan.
    """
    plan = graph.kernels
    if plan is None:
        return None
    import torch

    from irprune.kernelplan import moved, plan_kernels

    now = plan_kernels(graph.gm, plan.wanted, plan.device, getattr(torch, plan.dtype))
    here = {then.node: new.backend for then, new in moved(plan, now)}
    return {**plan.to_json(), "here": here}


def print_kernels(console: Console, found: Mapping[str, Any] | None) -> None:
    """A line per node that is served, then each reason once, with the nodes that it is of."""
    if found is None:
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("node", "op", "kernel"):
        table.add_column(heading, overflow="fold")
    reasons: dict[str, Counter[str]] = {}
    for n in found["nodes"]:
        table.add_row(n["node"], n["op"], n["backend"] + (" (bound)" if n["bound"] else ""))
        for d in n["declined"]:
            reasons.setdefault(f"{d['backend']}: {d['reason']}", Counter())[n["op"]] += 1
    console.print(f"\nkernels for {found['device']}, {found['dtype']}", markup=False)
    console.print(table)
    for reason, ops in reasons.items():
        of = ", ".join(f"{count} {op}" for op, count in ops.items())
        console.print(f"declined {of} by {reason}", markup=False)
    for node, backend in found["here"].items():
        console.print(f"here {node} would be served by {backend}", markup=False)
