"""activation: how large a block is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor, fx

from irprune.graph import EquivariantGraph
from irprune.irreps import IrrepsType
from irprune.masked import read_plan
from irprune.passes.criteria.base import Criterion, Measure, Values, register
from irprune.passes.criteria.structures import Structure
from irprune.passes.criteria.units import Bools, hand_to_axes


@register
@dataclass(frozen=True)
class Activation(Criterion):
    """Root mean square of a block over the structures, per component, summed over its reads."""

    name: ClassVar[str] = "activation"

    def prepare(self, graph: EquivariantGraph, seed: int) -> Measure:
        return _Squares(graph)


class _Squares(Measure):
    def __init__(self, graph: EquivariantGraph) -> None:
        self.graph = graph
        self.reader = _Reader(graph)

    def of(self, structure: Structure, generator: Generator) -> Tensor:
        self.reader.total = np.zeros(self.graph.blocks.n_classes)
        with torch.no_grad():
            self.reader.run(*structure.call)
        return torch.from_numpy(self.reader.total)

    def finish(self, mean: Values) -> Values:
        total, seen = mean.copy(), _readable(self.graph)
        hand_to_axes(self.graph, total, seen)
        total[~seen] = np.nan
        return np.sqrt(total)


class _Reader(fx.Interpreter):
    """Adds up mean squares of every unit where it is read."""

    def __init__(self, graph: EquivariantGraph) -> None:
        super().__init__(graph.gm)
        self.sites, self.space = graph.sites, graph.blocks
        self.plan = read_plan(graph, of_value=True)
        self.total = np.zeros(0)

    def run_node(self, n: fx.Node) -> Any:
        site = self.sites[n.name]
        for read in self.plan.reads.get(n.name, ()):
            t, value = site.irreps(read.operand), self.env[site.operands[read.operand]]
            (ids,) = read.factors
            np.add.at(
                self.total, self.space.class_of[ids[ids >= 0]], _mean_squares(t, value)[ids >= 0]
            )
        return super().run_node(n)


def _mean_squares(t: IrrepsType, value: Tensor) -> Values:
    """Mean over rows of |block|²/(2l+1), [n_units]."""
    if not len(value):
        return np.zeros(t.n_units)
    if value.dim() == 3:
        parts = value.split([s.dim for s in t.segments], dim=2)
        units = torch.cat([p.square().mean(dim=2) for p in parts], dim=1)
        return units.double().mean(dim=0).cpu().numpy()
    flat = value.reshape(len(value), -1).double().square()
    dims = torch.as_tensor(t.unit_dims, device=flat.device)
    index = torch.as_tensor(t.component_units, device=flat.device)
    sums = flat.new_zeros(len(value), t.n_units).index_add(1, index, flat)
    return (sums / dims).mean(dim=0).cpu().numpy()


def _readable(graph: EquivariantGraph) -> Bools:
    """Classes with an element that is a unit of some value."""
    out = np.zeros(graph.blocks.n_classes, bool)
    for (_, axis), span in graph.blocks.spans.items():
        if axis is None:
            out[graph.blocks.class_of[span.ids]] = True
    return out
