"""Straight-line arithmetic as a graph: built, differentiated in reverse, and written out as C++."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from irprune.kernels.cpu.source import number

Node = int


@dataclass
class Program:
    """Nodes in the order of evaluation; equal nodes are one. Each is (kind, operands…)."""

    nodes: list[tuple[Any, ...]] = field(default_factory=list)
    known: dict[tuple[Any, ...], Node] = field(default_factory=dict)

    def _add(self, *key: object) -> Node:
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = len(self.nodes)
            self.nodes.append(key)
        return found

    def read(self, name: str, index: int) -> Node:
        """An input: lane ``index`` of the array ``name``."""
        return self._add("read", name, index)

    def scale(self, a: Node, factor: float) -> Node:
        """factor · a."""
        return a if factor == 1.0 else self._add("scale", a, factor)

    def times(self, a: Node, b: Node) -> Node:
        return self._add("times", *sorted((a, b)))

    def plus(self, a: Node | None, b: Node) -> Node:
        return b if a is None else self._add("plus", *sorted((a, b)))

    def total(self, terms: Sequence[Node]) -> Node | None:
        """The sum of some nodes; None for none."""
        out: Node | None = None
        for t in terms:
            out = self.plus(out, t)
        return out

    def adjoints(self, seeds: Mapping[Node, Node]) -> dict[Node, Node]:
        """∂(Σ seed · node)/∂node for every node that the seeded ones depend on."""
        out: dict[Node, Node] = {}
        for node, seed in seeds.items():
            out[node] = self.plus(out.get(node), seed)
        for node in range(max(seeds, default=-1), -1, -1):
            bar = out.get(node)
            if bar is None:
                continue
            kind, *rest = self.nodes[node]
            if kind == "scale":
                a, factor = rest
                pieces = [(a, self.scale(bar, factor))]
            elif kind == "times":
                a, b = rest
                pieces = [(a, self.times(bar, b)), (b, self.times(bar, a))]
            elif kind == "plus":
                pieces = [(a, bar) for a in rest]
            else:
                continue
            for a, piece in pieces:
                out[a] = self.plus(out.get(a), piece)
        return out

    def code(self, results: Mapping[str, Node]) -> str:
        """C++ for the nodes that the results need; ``results`` maps lvalues to nodes."""
        need = set(results.values())
        for node in range(max(need, default=-1), -1, -1):
            if node in need and self.nodes[node][0] != "read":
                kind, a, b = self.nodes[node]
                need |= {a} if kind == "scale" else {a, b}
        lines = []
        for node in sorted(need):
            kind, a, b = self.nodes[node]
            text = {
                "read": f"ld<A>({a} + {b} * K + u)",
                "scale": f"{number(b) if kind == 'scale' else ''} * t{a}",
                "times": f"t{a} * t{b}",
                "plus": f"t{a} + t{b}",
            }[str(kind)]
            lines.append(f"  const A t{node} = {text};")
        lines += [f"  {target};".replace("$", f"t{node}") for target, node in results.items()]
        return "\n".join(lines)
