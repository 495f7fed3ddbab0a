"""cse: equal calls on equal arguments are made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from torch import fx

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
    by_node: ClassVar[bool] = True

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph without duplicates; the same graph if there is none."""
        from torch import fx

        from irprune.rewriting import Rewriting

        edit = Rewriting(graph, context)
        known: dict[Any, fx.Node] = {}
        changed = _changed(edit.gm.graph)
        for node in list(edit.gm.graph.nodes):
            if node.op in ("placeholder", "output") or changed.intersection(
                (node, *node.all_input_nodes)
            ):
                continue
            target: Any = node.target
            if node.op == "call_module":
                target = id(edit.gm.get_submodule(str(target)))
            arguments = fx.node.map_arg((node.args, node.kwargs), lambda n: f"%{n.name}")
            first = known.setdefault((node.op, target, repr(arguments)), node)
            if first is not node:
                edit.replace(node, first)
        return edit.done()


def _changed(graph: fx.Graph) -> set[fx.Node]:
    """Values that some node changes in place, and what they may be views of."""
    import operator

    in_place = {operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem}
    out: set[fx.Node] = set()
    for node in graph.nodes:
        name = (
            str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
        )
        mutates = node.target in in_place or (name.endswith("_") and not name.endswith("__"))
        if node.op not in ("call_method", "call_function") or not mutates:
            continue
        source = next(iter(node.all_input_nodes), None)
        while source is not None and source not in out:
            out.add(source)
            source = next(iter(source.all_input_nodes), None)
    return out
