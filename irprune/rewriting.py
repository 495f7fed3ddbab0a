"""Rewriting a graph: a copy to edit, and the typed graph that comes out.

Passes find their nodes in ``graph.sites``, put new ones before them and replace the old; what nothing
reads any more goes, and types are inferred and checked anew.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from irprune.graph import EquivariantGraph
from irprune.infer import check_shapes

if TYPE_CHECKING:
    from irprune.passmanager import PassContext


class Rewriting:
    """One edit of a graph. The graph that was given stays as it is.

    With the context of a pass that works node by node, only the nodes of ``context.only`` are
    replaced: what was put in for others is read by nobody, and goes.
    """

    def __init__(self, graph: EquivariantGraph, context: PassContext | None = None) -> None:
        self.graph = graph
        self.context = context
        self.gm = copy.deepcopy(graph.gm)
        self._nodes = {n.name: n for n in self.gm.graph.nodes}
        self._renamed: dict[str, str] = {}
        self.changed = False

    def node(self, original: fx.Node | str) -> fx.Node:
        """The copy of a node of the given graph, or what has replaced it."""
        return self._nodes[original if isinstance(original, str) else original.name]

    def module(
        self, before: fx.Node, path: str, module: nn.Module, args: tuple[Any, ...]
    ) -> fx.Node:
        """Calls a new module just before a node; ``path`` is made unique with a number."""
        path = self.add(path, module)
        with self.gm.graph.inserting_before(before):
            return self.gm.graph.call_module(path, args)

    def add(self, path: str, module: nn.Module) -> str:
        """Adds a module, and gives its path, made unique with a number."""
        path = self._free(path)
        parent = self.gm
        *owners, leaf = path.split(".")
        for name in owners:
            if name not in parent._modules:
                parent.add_module(name, nn.Module())
            parent = parent._modules[name]  # type: ignore[assignment]
        module.train(self.gm.training).requires_grad_(False)
        parent.add_module(leaf, module)
        return path

    def exchange(self, path: str, module: nn.Module) -> None:
        """Puts another module in the place of one: the nodes that call it stay."""
        calls = [n.name for n in self.gm.graph.nodes if n.op == "call_module" and n.target == path]
        if not self.may(*calls):
            return
        parent, _, leaf = path.rpartition(".")
        module.train(self.gm.training).requires_grad_(False)
        self.gm.get_submodule(parent)._modules[leaf] = module
        self.changed = True

    def _free(self, path: str) -> str:
        used = {name for name, _ in self.gm.named_modules(remove_duplicate=False)}
        number, free = 1, path
        while free in used:
            number, free = number + 1, f"{path}_{number + 1}"
        return free

    def call(self, before: fx.Node, function: Callable[..., Any], *args: Any) -> fx.Node:
        """Calls a function just before a node."""
        with self.gm.graph.inserting_before(before):
            return self.gm.graph.call_function(function, args)

    def replace(self, old: fx.Node, new: fx.Node) -> None:
        """Every use of ``old`` becomes one of ``new``, and the label that ``old`` had."""
        if not self.may(old.name):
            return
        old.replace_all_uses_with(new)
        for name, node in self._nodes.items():
            if node is old:
                self._nodes[name] = new
        self._renamed[old.name] = new.name
        self.changed = True

    def may(self, *names: str) -> bool:
        """Whether the nodes may be rewritten; notes those that are."""
        if self.context is None:
            return True
        if self.context.only is not None and not self.context.only.intersection(names):
            return False
        self.context.rewritten.extend(names)
        return True

    def done(self, **changes: Any) -> EquivariantGraph:
        """The new graph; the given one where nothing was replaced.

        Raises:
            IrrepsTypeError: the new graph does not type; names the nodes.
        """
        if not self.changed:
            return self.graph
        self.gm.graph.eliminate_dead_code()
        self.gm.graph.lint()
        self.gm.delete_all_unused_submodules()
        self.gm.recompile()
        labels = {k: self._last(v) for k, v in self.graph.labels.items()}
        # nodes that a masked model or scores refer to are gone
        made = self.graph.replace(gm=self.gm, labels=labels, keep=None, scores=None, **changes)
        check_shapes(made.gm, made.sites, made.inputs)
        return made

    def _last(self, name: str) -> str:
        while name in self._renamed:
            name = self._renamed[name]
        return name


def path_like(node: fx.Node) -> str:
    """A module path after a node's: that of its own module, or its name."""
    if node.op == "call_module":
        return str(node.target)
    return re.sub(r"\W", "_", node.name)
