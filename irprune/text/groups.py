"""The coupled groups of a graph, for people: what goes together, what is fixed, what is unknown."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from irprune.ops.base import Site, qualified

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


def _stub(site: Site) -> str:
    """The beginning of an OpDef for a node that has none."""
    target = site.node.target
    if site.module is not None:
        name, key = type(site.module).__name__, repr(qualified(type(site.module)))
    elif site.node.op == "call_method":
        name, key = str(target), repr(f"method:{target}")
    else:
        name = getattr(target, "__name__", str(target))
        key = f"{getattr(target, '__module__', '')}.{name}"
    return f"""    @irprune.register_op
    class {name.title().replace("_", "")}(irprune.OpDef):
        name = "{name.lower()}"
        targets = ({key},)"""


def print_groups(graph: EquivariantGraph) -> str:
    """Coupled groups axis by axis, with the values whose blocks go together; then the frozen."""
    space = graph.blocks
    lines = [f"{'axis':<48} {'kind':<8} groups"]
    for axis in graph.axes():
        lines.append(str(axis))
        members = sorted({space.locate(int(e))[0].node for e in space.members[axis.groups[0]]})
        others = [m for m in members if m != axis.node]
        if others:
            lines.append(f"    with {', '.join(others)}")
    reasons: dict[str, int] = defaultdict(int)
    for reason in space.fixed.values():
        reasons[reason] += 1
    for reason, n in reasons.items():
        lines.append(f"fixed {n} blocks: {reason}")
    for name in space.barriers:
        site = graph.sites[name]
        lines.append(f"barrier {site.where}: no OpDef; register one:")
        lines.append(_stub(site))
    return "\n".join(lines)
