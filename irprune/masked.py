"""Running a graph with multipliers on its blocks: the masked model, and the probe that scores use.

A block is multiplied where it is *read*: at every operand of an op that mixes it with others. Where
an op only hands it on (a sum, a gather, a gate) the block is multiplied at the reads of the result
instead, so that every use sees it exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops.base import op_at, op_of_node

if TYPE_CHECKING:
    from irprune.blocks import BlockSpace
    from irprune.graph import EquivariantGraph

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Read:
    """Operand ``operand`` of a node, and the elements of its units to multiply by."""

    operand: int
    factors: tuple[Ids, ...]
    """Each [n_units]; −1 where nothing multiplies."""


@dataclass(frozen=True)
class ReadPlan:
    """Where multipliers enter, for every node of a graph."""

    reads: Mapping[str, tuple[Read, ...]]
    axes: Mapping[str, Mapping[str, Ids]]


def read_plan(graph: EquivariantGraph, of_value: bool) -> ReadPlan:
    """All reads of a graph.

    Args:
        graph: the typed graph.
        of_value: True multiplies each unit by its own element (for 0/1 masks, products included);
            False multiplies by the free factors only, each once (for derivatives).
    """
    space = graph.blocks
    carried = {} if of_value else _carried(space)
    reads: dict[str, tuple[Read, ...]] = {}
    axes: dict[str, dict[str, Ids]] = {}
    for name, site in graph.sites.items():
        if not site.node.op.startswith("call"):
            continue
        passing = space.passing(name)
        found = []
        for i, t in enumerate(site.types):
            if not isinstance(t, IrrepsType):
                continue
            ids = space.ids_of(site.operands[i].name)
            live = np.array([int(e) not in passing for e in ids], bool)
            if t.layout is Layout.MUL_X_DIM and not of_value:
                k, n = t.segments[0].mul, len(t.segments)
                channel = np.tile(space.ids_of(site.operands[i].name, "channel"), n)
                order = np.repeat(space.ids_of(site.operands[i].name, "order"), k)
                factors: tuple[Ids, ...] = (
                    np.where(live, channel, -1),
                    np.where(live, order, -1),
                )
            else:
                free = live if of_value else live & ~space.derived[space.class_of[ids]]
                factors = (np.where(free, ids, -1), *_late(carried, space.class_of[ids], live))
            if any((f >= 0).any() for f in factors):
                found.append(Read(i, factors))
        if found:
            reads[name] = tuple(found)
        op = op_at(site)
        if op is not None and (sizes := op.axes(site)):
            axes[name] = {a: space.ids_of(name, a) for a in sizes}
    return ReadPlan(reads, axes)


def _carried(space: BlockSpace) -> dict[int, list[int]]:
    """For classes of products: the factors that the op handed on without multiplying by them.

    A tensor product hands a channel on to an output that others write as well, and makes products of
    it in outputs of its own: there the channel is multiplied where the product is read.
    """
    found: dict[int, list[int]] = {}
    for out, factors in space.products:
        if not len(out) or (span := space.locate(int(out[0]))[0]).axis is not None:
            continue
        passing = space.passing(span.node)
        for f in factors if passing else ():
            for o, e in zip(out.tolist(), f.tolist(), strict=True):
                if e in passing:
                    c = int(space.class_of[e])
                    late = found.get(c, []) if space.derived[c] else [e]
                    found.setdefault(int(space.class_of[o]), []).extend(late)
    return found


def _late(carried: Mapping[int, list[int]], classes: Ids, live: BoolMask) -> tuple[Ids, ...]:
    """The carried factors of units, as arrays like :attr:`Read.factors`."""
    lists = [carried.get(int(c), []) if on else [] for c, on in zip(classes, live, strict=True)]
    depth = max(map(len, lists), default=0)
    return tuple(
        np.array([x[k] if k < len(x) else -1 for x in lists], np.int64) for k in range(depth)
    )


def widen(t: IrrepsType, values: Tensor) -> Tensor:
    """Per-unit values [n_units] in the shape of a row of ``t``."""
    if t.layout is Layout.ROWS:
        return values.reshape(())
    if t.layout is Layout.MUL_X_DIM:
        k = t.segments[0].mul
        dims = torch.tensor([s.dim for s in t.segments], device=values.device)
        return values.reshape(len(t.segments), k).t().repeat_interleave(dims, dim=1)
    if t.layout is Layout.IR_MUL:
        parts = zip(values.split([s.mul for s in t]), t, strict=True)
        return torch.cat([part.repeat(s.dim) for part, s in parts])
    return values.repeat_interleave(torch.as_tensor(t.unit_dims, device=values.device))


class MultipliedInterpreter(fx.Interpreter):
    """Runs a graph with element ``e`` multiplied by ``z[class_of[e]]`` wherever it is read."""

    def __init__(self, graph: EquivariantGraph, plan: ReadPlan, z: Tensor) -> None:
        super().__init__(graph.gm)
        self.graph_ = graph
        self.plan = plan
        self.z = z
        self._class_of = torch.from_numpy(graph.blocks.class_of)
        self._active = self._find_active()

    def _find_active(self) -> BoolMask:
        """Classes whose multiplier is not the constant 1 (all of them, if z takes a gradient)."""
        if self.z.requires_grad:
            return np.ones(len(self.z), bool)
        return np.asarray((self.z != 1).cpu().numpy(), bool)

    def _values(self, ids: Ids) -> Tensor:
        index = self._class_of[torch.from_numpy(np.maximum(ids, 0))].to(self.z.device)
        values = self.z[index]
        if (ids < 0).any():
            keep = torch.from_numpy(ids >= 0).to(values.device)
            values = torch.where(keep, values, torch.ones_like(values))
        return values

    def _touches(self, ids: Ids) -> bool:
        classes = self.graph_.blocks.class_of[ids[ids >= 0]]
        return bool(self._active[classes].any())

    def run_node(self, n: fx.Node) -> Any:
        reads = {r.operand: r for r in self.plan.reads.get(n.name, ())}
        axes = self.plan.axes.get(n.name, {})
        axes = axes if any(self._touches(ids) for ids in axes.values()) else {}
        reads = {i: r for i, r in reads.items() if any(self._touches(f) for f in r.factors)}
        if not reads and not axes:
            return super().run_node(n)
        site = self.graph_.sites[n.name]
        position = -1

        def fetch(node: fx.Node) -> Any:
            nonlocal position
            position += 1
            value = self.env[node]
            read = reads.get(position)
            if read is not None:
                t = site.irreps(position)
                for ids in read.factors:
                    value = value * widen(t, self._values(ids)).to(value.dtype)
            return value

        args, kwargs = fx.map_arg((n.args, n.kwargs), fetch)
        if axes:
            op = op_of_node(n, site.module)
            assert op is not None
            return op.apply(site, args, kwargs, {a: self._values(ids) for a, ids in axes.items()})
        return getattr(self, n.op)(n.target, args, kwargs)


class MaskedModule(nn.Module):
    """The original model with removed blocks multiplied by zero."""

    def __init__(self, graph: EquivariantGraph, elements: BoolMask) -> None:
        super().__init__()
        self.gm = graph.gm
        self._graph = graph
        keep = np.zeros(graph.blocks.n_classes, bool)
        keep[graph.blocks.class_of[elements]] = True
        self._keep = keep

    @cached_property
    def _plan(self) -> ReadPlan:
        return read_plan(self._graph, of_value=True)

    def forward(self, *inputs: Tensor) -> Any:
        z = torch.from_numpy(self._keep.astype(np.float64))
        device = next((x.device for x in inputs if torch.is_tensor(x)), z.device)
        return MultipliedInterpreter(self._graph, self._plan, z.to(device)).run(*inputs)
