"""Features after each layer, of a student and of the blocks of its teacher that it kept."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from irprune.errors import UsageError
from irprune.irreps import IrrepsType, Layout, Space

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


class Watched(nn.Module):
    """A graph module that also keeps the values of some nodes of its last call.

    ``rows`` chooses the columns of each value that count: those of the blocks that a student kept.
    """

    def __init__(self, gm: fx.GraphModule, columns: Mapping[str, Tensor | None]) -> None:
        super().__init__()
        self.names = list(columns)
        self.columns = dict(columns)
        graph = copy.deepcopy(gm.graph)
        nodes = {n.name: n for n in graph.nodes}
        output = next(n for n in reversed(list(graph.nodes)) if n.op == "output")
        output.args = ((output.args[0], *(nodes[k] for k in columns)),)
        self.gm = fx.GraphModule(gm, graph)  # shares the parameters
        self.seen: tuple[Tensor, ...] = ()

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the graph returns."""
        out, *seen = self.gm(*inputs)
        self.seen = tuple(seen)
        return out

    def taken(self) -> dict[str, Tensor]:
        """Node → its value in the last call [N, columns], and forgets it."""
        out = {}
        for name, value in zip(self.names, self.seen, strict=True):
            columns = self.columns[name]
            flat = value.reshape(value.shape[0], -1)
            out[name] = flat if columns is None else flat[:, columns.to(flat.device)]
        self.seen = ()
        return out


def kept_columns(
    student: EquivariantGraph, teacher: EquivariantGraph, nodes: Sequence[str]
) -> dict[str, Tensor | None]:
    """For each node the columns of the teacher's value that are the student's, in order.

    Known because slicing keeps the graph before it (``origin``) and what was selected there; no
    projection is fitted.

    Raises:
        UsageError: the student was not sliced from the teacher in this process, or a node's blocks
            cannot be told.
    """
    out: dict[str, Tensor | None] = {}
    for node in nodes:
        wanted = teacher.sites[node].out if node in teacher.sites else None
        have = student.sites[node].out if node in student.sites else None
        if not isinstance(wanted, IrrepsType) or not isinstance(have, IrrepsType):
            raise UsageError(
                f"feature-weight: node {node} is not in both student and teacher, so there is"
                " nothing to compare"
            )
        if have.layout is not wanted.layout:
            raise UsageError(
                f"feature-weight: node {node} is {have} in the student and {wanted} in the teacher;"
                " put lay-out after recover"
            )
        index = _traced_back(student, node, have.dim, wanted.dim)
        if index is None or len(index) != have.dim or (len(index) and index.max() >= wanted.dim):
            raise UsageError(
                f"feature-weight: which of the teacher's blocks of {node} ({wanted}) the student"
                f" kept ({have}) is not known; it is where recover follows slice in one pipeline,"
                " with the unsliced model as teacher"
            )
        same = len(index) == wanted.dim
        out[node] = None if same else torch.from_numpy(index)
    return out


def _traced_back(
    graph: EquivariantGraph, node: str, dim: int, goal: int
) -> NDArray[np.int64] | None:
    """Columns of the first ancestor's value, of width ``goal``, that are left; None where unknown."""
    index = np.arange(dim)
    here, width = graph.origin, dim
    while here is not None:
        site = here.sites.get(node)
        if site is None or not isinstance(site.out, IrrepsType):
            return None
        mask = here.blocks.keep_at(site, here.elements()).out
        if mask is None or site.out.layout is not Layout.MUL_IR:
            return None
        left = np.flatnonzero(site.out.components(mask))
        if len(left) != width:  # more went than was selected
            return None
        index, here, width = left[index], here.origin, site.out.dim
    return index if width == goal else None


def layer_nodes(graph: EquivariantGraph) -> list[str]:
    """The nodes whose values stand for the layers, as far as they are flat features of nodes."""
    return [n for n in dict.fromkeys(graph.labels.values()) if _flat(graph, n)]


def _flat(graph: EquivariantGraph, node: str) -> bool:
    t = graph.sites[node].out if node in graph.sites else None
    return isinstance(t, IrrepsType) and t.is_flat and t.space is Space.NODE
