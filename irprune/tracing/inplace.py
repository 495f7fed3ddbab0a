"""Changes in place, said without them: ``out.index_add_(…)`` becomes ``out = out.index_add(…)``.

A graph says what is computed from what. A method that changes its tensor is therefore rewritten to
one that returns the new value, and every later use of the tensor reads that value. This is right as
long as no other value shares the tensor's memory and is read later; where one may, tracing refuses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from irprune.errors import UsageError
from irprune.ops.base import op_of_node

_VIEWS = frozenset(
    {
        "chunk", "expand", "extract", "getattr", "getitem", "index-column", "index-rows", "narrow",
        "neg", "split", "squeeze", "unsqueeze", "view-column",
    }
)  # fmt: skip
"""Ops whose result may share memory with their first operand."""


def out_of_place(gm: fx.GraphModule, name: str) -> None:
    """Rewrites every change in place of a traced module.

    Args:
        gm: the traced module; its graph is changed.
        name: the class of the original, for error messages.

    Raises:
        UsageError: a change that another value sees; names the method and the line.
    """
    for node in list(gm.graph.nodes):
        target = _changed(gm, node)
        if target is None:
            continue
        after = _after(node)
        seen = _sharing(gm, target) - {target, node}
        late = next((s for s in seen for u in s.users if u in after), None)
        if late is not None:
            raise UsageError(
                f"cannot trace {name}.forward: {node.name} ({_line(node)}) changes {target.name} in"
                f" place, and {late.name}, which may share its memory, is read afterwards; write"
                " the change as a new value, x = x + y in the place of x.add_(y)"
            )
        for user in list(target.users):
            if user in after:
                user.replace_input_with(target, node)
        _without_change(gm, node, target, name)


def _changed(gm: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The value that a call changes in place, if it changes one."""
    first = node.args[0] if node.args else node.kwargs.get("input")
    if not isinstance(first, fx.Node):
        return None
    if node.op == "call_method":
        method = str(node.target)
        return first if method.endswith("_") and not method.endswith("__") else None
    if node.op == "call_module":
        return first if getattr(gm.get_submodule(str(node.target)), "inplace", False) else None
    if node.op == "call_function":
        own = getattr(node.target, "__name__", "")
        in_place = own.endswith("_") and not own.endswith("__")
        return first if in_place or node.kwargs.get("inplace") else None
    return None


def _after(node: fx.Node) -> set[fx.Node]:
    found = set()
    while node.next.op != "root":
        node = node.next
        found.add(node)
    return found


def _is_view(gm: fx.GraphModule, node: fx.Node) -> bool:
    if not node.op.startswith("call"):
        return False
    module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
    op = op_of_node(node, module)
    if op is not None and op.name == "getitem":
        return not isinstance(node.args[1], fx.Node)  # rows by index are copies
    return op is None or op.name in _VIEWS


def _operands(node: fx.Node) -> list[fx.Node]:
    return list(node.all_input_nodes)


def _sharing(gm: fx.GraphModule, node: fx.Node) -> set[fx.Node]:
    """The values that may share memory with one: what it may be a view of, and their views."""
    found = {node}
    todo = [node]
    while todo:
        here = todo.pop()
        near = _operands(here) if _is_view(gm, here) else []
        near += [u for u in here.users if _is_view(gm, u)]
        for other in near:
            if other not in found:
                found.add(other)
                todo.append(other)
    return found


def _without_change(gm: fx.GraphModule, node: fx.Node, target: fx.Node, name: str) -> None:
    if node.op == "call_module":
        return  # no later use of the operand is left
    if "inplace" in node.kwargs:
        node.kwargs = {**node.kwargs, "inplace": False}
        return
    if len(target.users) == 1 and _is_zeros(gm, target):
        return  # a target of its own, filled once
    pure = str(getattr(node.target, "__name__", node.target))[:-1]
    if not hasattr(torch.Tensor, pure):
        raise UsageError(
            f"cannot trace {name}.forward: {node.name} ({_line(node)}) changes {target.name} in"
            f" place by {pure}_, which has no form that returns a new value"
        )
    if node.op == "call_method":
        node.target = pure
    else:
        function: Any = getattr(torch, pure, None) or getattr(torch.nn.functional, pure)
        node.target = function


def _is_zeros(gm: fx.GraphModule, node: fx.Node) -> bool:
    op = op_of_node(node, None) if node.op in ("call_function", "call_method") else None
    return op is not None and op.name == "zeros"


def _line(node: fx.Node) -> str:
    return str(node.meta.get("source", "line unknown"))
