"""Helpers for small networks written out in a test: trace, remove blocks, compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

import irprune
from irprune.graph import EquivariantGraph
from irprune.ops.base import OpDef, Site, load_builtin_ops, op_of_node
from irprune.slicing import slice_graph
from irprune.verification.checks import worst_of
from irprune.verification.ladder import compare_on_examples


class Net(nn.Module):
    """A module from its parts and a forward function ``f(self, ...)`` with named arguments."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def network(forward: Callable[..., Tensor], **parts: nn.Module) -> nn.Module:
    """A double-precision module whose forward is the function given."""
    cls = type("Handmade", (Net,), {"forward": forward})
    return cls(**parts).double()


def trace(forward: Callable[..., Tensor], inputs: Mapping[str, str], **parts: nn.Module):
    torch.manual_seed(0)
    return irprune.trace(network(forward, **parts), inputs)


def single(module: nn.Module, **inputs: str) -> EquivariantGraph:
    """The graph of one module called with its inputs in order."""
    forward = {
        1: lambda self, x: self.op(x),
        2: lambda self, x, y: self.op(x, y),
        3: lambda self, x, y, w: self.op(x, y, w),
    }[len(inputs)]
    return trace(forward, inputs, op=module)


def op_at(graph: EquivariantGraph, node: str) -> tuple[OpDef, Site]:
    load_builtin_ops()
    site = graph.sites[node]
    op = op_of_node(site.node, site.module)
    assert op is not None
    return op, site


def axis(graph: EquivariantGraph, name: str):
    found = {a.name: a for a in graph.axes()}
    assert name in found, f"no axis {name}; there are {', '.join(found)}"
    return found[name]


def without(graph: EquivariantGraph, removed: Mapping[str, Iterable[int]]) -> EquivariantGraph:
    """The graph with groups removed: ``{"layer:0e": [1, 2]}`` for groups 1, 2 of axis ``layer:0e``."""
    mask = np.zeros(graph.blocks.n_classes, bool)
    for name, which in removed.items():
        groups = axis(graph, name).groups
        mask[[groups[i] for i in which]] = True
    return graph.replace(keep=graph.blocks.without(mask))


def error(graph: EquivariantGraph) -> float:
    """Relative difference between the masked and the sliced model, values and gradients."""
    small = slice_graph(graph)
    return worst_of(
        compare_on_examples(small, graph.masked_reference(), small.module(torch.float64), grow)
        for grow in (0, 2)
    )
