"""cse: equal calls on equal arguments are made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Cse(Pass):
    """Merges nodes that call the same thing on the same arguments.

    A module is the same only if it is the same object: two modules with equal weights stay two.
    """

    name: ClassVar[str] = "cse"
    summary: ClassVar[str] = "equal calls on equal arguments are made once"
    trait: ClassVar[str] = "exact"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph without duplicates; the same graph if there is none."""
        from torch import fx

        from irprune.rewriting import Rewriting

        edit = Rewriting(graph)
        known: dict[Any, fx.Node] = {}
        for node in list(edit.gm.graph.nodes):
            if node.op in ("placeholder", "output"):
                continue
            target: Any = node.target
            if node.op == "call_module":
                target = id(edit.gm.get_submodule(str(target)))
            arguments = fx.node.map_arg((node.args, node.kwargs), lambda n: f"%{n.name}")
            first = known.setdefault((node.op, target, repr(arguments)), node)
            if first is not node:
                edit.replace(node, first)
        return edit.done()
