"""One form for calls that can be written in several: what ops see of a traced graph.

- Arguments of modules are positional.
- Pieces of ``split`` and of e3nn's ``Extract`` are ``narrow`` and ``cat``.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from e3nn.nn import Extract
from torch import fx

from irprune.ops.base import op_of_class

REWRITTEN = (Extract,)
"""Modules that are recorded as one call and then written as other calls."""


def canonical(gm: fx.GraphModule) -> None:
    """Rewrites the graph of a traced module."""
    for node in list(gm.graph.nodes):
        if node.op == "call_module":
            module = gm.get_submodule(str(node.target))
            if isinstance(module, Extract):
                _extract(gm.graph, node, module)
            elif op_of_class(type(module)) is not None and node.kwargs:
                _positional(node, module)
        elif node.target in (torch.split, "split"):
            _split(gm.graph, node)
    gm.graph.eliminate_dead_code()
    gm.recompile()


def _positional(node: fx.Node, module: torch.nn.Module) -> None:
    """Keyword arguments of a module call in the order of its ``forward``, where they close up."""
    try:
        bound = inspect.signature(module.forward).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):
        return
    if not bound.kwargs:
        node.args, node.kwargs = bound.args, {}


def _piece(graph: fx.Graph, x: Any, start: int, length: int, like: fx.Node) -> fx.Node:
    made = graph.call_function(torch.narrow, (x, -1, start, length))
    made.meta.update(like.meta)
    return made


def _items(node: fx.Node) -> dict[int, list[fx.Node]] | None:
    """The users that take item i, for each i; None where a user takes something else."""
    found: dict[int, list[fx.Node]] = {}
    for user in node.users:
        key = user.args[1] if getattr(user.target, "__name__", "") == "getitem" else None
        if not isinstance(key, int):
            return None
        found.setdefault(key, []).append(user)
    return found


def _replace(users: list[fx.Node], made: fx.Node) -> None:
    for user in users:
        user.replace_all_uses_with(made)


def _split(graph: fx.Graph, node: fx.Node) -> None:
    """``torch.split(x, [a, b, …], dim=-1)``."""
    given = dict(zip(("input", "sizes", "dim"), node.args, strict=False)) | dict(node.kwargs)
    sizes = next((given[k] for k in ("sizes", "split_size_or_sections", "split_size") if k in given),
                 None)  # fmt: skip
    items = _items(node)
    if items is None or not isinstance(sizes, (list, tuple)) or given.get("dim", 0) not in (-1, 1):
        return
    if not all(isinstance(s, int) for s in sizes):
        return
    x = node.args[0] if node.args else given.get("input", given.get("tensor"))
    for i, users in items.items():
        with graph.inserting_before(node):
            i = range(len(sizes))[i]
            _replace(users, _piece(graph, x, sum(sizes[:i]), sizes[i], node))


def _extract(graph: fx.Graph, node: fx.Node, module: Extract) -> None:
    """``e3nn.nn.Extract`` and ``ExtractIr``."""
    starts = [s.start for s in module.irreps_in.slices()]
    widths = [mul * ir.dim for mul, ir in module.irreps_in]
    x = node.args[0] if node.args else next(iter(node.kwargs.values()))

    def part(instruction: tuple[int, ...]) -> fx.Node:
        with graph.inserting_before(node):
            pieces = [_piece(graph, x, starts[i], widths[i], node) for i in instruction]
            if len(pieces) == 1:
                return pieces[0]
            made = graph.call_function(torch.cat, (pieces, -1))
            made.meta.update(node.meta)
            return made

    if any(not instruction for instruction in module.instructions):
        return
    if hasattr(module, "irreps_out"):
        node.replace_all_uses_with(part(module.instructions[0]))
        return
    items = _items(node)
    if items is not None:
        for i, users in items.items():
            _replace(users, part(module.instructions[i]))
