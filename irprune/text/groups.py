"""The coupled groups of a graph, for people: what goes together, what is fixed, what is unknown."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING

from irprune.ops.base import Site, op_of_node, qualified

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


def _near(source: str) -> str:
    """A file and line, relative to the current folder where it lies below."""
    path, _, line = source.rpartition(":")
    below = os.path.relpath(path)
    return source if below.startswith("..") else f"{below}:{line}"


def print_barrier(site: Site) -> str:
    """What a barrier is, where the user's code calls it, why it is one, and what would change that."""
    at = f" at {_near(site.source)}" if site.source else ""
    op = op_of_node(site.node, site.module)
    if op is not None:
        return f"barrier {site.where}{at}: {site.why.removeprefix(site.where + ': ')}"
    return f"barrier {site.where}{at}: {site.why}; register an op:\n{_stub(site)}"


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
    lines += [print_barrier(graph.sites[name]) for name in space.barriers]
    return "\n".join(lines)
