"""What a comparison of two graphs found, as values that print and become JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from irprune.cost import Stats


@dataclass(frozen=True)
class Node:
    """One node of one graph, as its line of text says it, with what it costs."""

    name: str
    op: str
    """The name of the op; input, parameter or return where nothing is called."""
    called: str
    """Path of the module or parameter, the function or the method."""
    type: str
    args: str
    params: int
    flops_per_atom: float
    tensors: tuple[str, ...] = ()
    """Name, dtype and shape of each tensor that it reads from the model."""


@dataclass(frozen=True)
class NodeChange:
    """A node of both graphs that is not the same in both."""

    before: Node
    after: Node
    parts: tuple[str, ...]
    """Which of op, called, type, args, tensors, weights differ."""
    weights: float | None = None
    """Largest difference of its tensors over their largest value; None where shapes differ."""

    def describe(self) -> list[str]:
        """One text for each part: ``type node[3x0e] → node[2x0e]``."""
        lines = []
        for part in self.parts:
            if part == "weights":
                lines.append(f"weights differ by up to {self.weights:.2g} of the largest")
            elif part == "tensors":
                gone = [t for t in self.before.tensors if t not in self.after.tensors]
                new = [t for t in self.after.tensors if t not in self.before.tensors]
                lines.append(f"tensors {', '.join(gone) or 'none'} → {', '.join(new) or 'none'}")
            else:
                lines.append(f"{part} {getattr(self.before, part)} → {getattr(self.after, part)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.before.name,
            "name_after": self.after.name,
            "parts": list(self.parts),
            "before": asdict(self.before),
            "after": asdict(self.after),
            "weights": self.weights,
        }


@dataclass(frozen=True)
class BlockChange:
    """Blocks (k, l) of one irrep in one layer, or groups of one axis, in both graphs."""

    where: str
    """The label of a layer, or the name of an axis."""
    kind: str
    """``layer``, or the kind of the axis."""
    irrep: str
    before: int
    after: int


@dataclass(frozen=True)
class GraphDiff:
    """Everything in which two graphs differ."""

    before: Stats
    after: Stats
    removed: tuple[Node, ...]
    added: tuple[Node, ...]
    changed: tuple[NodeChange, ...]
    layers: tuple[BlockChange, ...]
    """Every irrep of every labelled layer, also where nothing went."""
    axes: tuple[BlockChange, ...]
    """Axes whose number of groups differs; 0 where one graph has no such axis."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs: nodes, types, arguments and the values of weights."""
        return not (self.removed or self.added or self.changed)

    def to_json(self) -> dict[str, Any]:
        return {
            "equal": self.equal,
            "removed": [asdict(n) for n in self.removed],
            "added": [asdict(n) for n in self.added],
            "changed": [c.to_json() for c in self.changed],
            "layers": [asdict(c) for c in self.layers],
            "axes": [asdict(c) for c in self.axes],
            "nodes": self.after.nodes,
            "nodes_before": self.before.nodes,
        }

    def __str__(self) -> str:
        lines = [
            _size("parameters", self.before.params, self.after.params),
            _size("FLOPs per atom", self.before.flops_per_atom, self.after.flops_per_atom),
            _size("blocks", self.before.blocks, self.after.blocks),
            _size("nodes", self.before.nodes, self.after.nodes),
        ]
        for c in (*self.layers, *self.axes):
            if c.before != c.after:
                lines.append(f"{c.kind} {c.where} {c.irrep}: {c.before} → {c.after}")
        lines += [f"- {line(n)}" for n in self.removed]
        lines += [f"+ {line(n)}" for n in self.added]
        for change in self.changed:
            lines.append(f"~ %{change.before.name}: {'; '.join(change.describe())}")
        return "\n".join([*lines, "nothing differs"] if self.equal else lines)


def line(n: Node) -> str:
    """A node on one line."""
    return f"%{n.name} : {n.type} = {n.op}({n.args}) {{{n.called}}}"


def _size(what: str, before: float, after: float) -> str:
    share = f" ({100 * after / before:.1f} %)" if before and math.isfinite(before) else ""
    return f"{what} {before:g} → {after:g}{share if after != before else ''}"
