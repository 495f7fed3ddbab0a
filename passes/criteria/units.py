"""From units to classes: what a criterion finds at the units of values, added up by class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from irprune.graph import EquivariantGraph
from irprune.ops.base import Matrix, op_of_node
from irprune.passes.criteria.base import Values

Ids = NDArray[np.int64]
Bools = NDArray[np.bool_]


def weight_matrices(graph: EquivariantGraph) -> Iterator[tuple[Ids, Matrix]]:
    """Elements [n] and their effective weights [n, d]: every matrix that reads or makes units."""
    space = graph.blocks
    for name, site in graph.sites.items():
        op = op_of_node(site.node, site.module) if site.node.op == "call_module" else None
        rows = op.weight_rows(site) if op is not None else None
        if rows is None:
            continue
        found = [
            (space.ids_of(operand.name), matrices)
            for operand, matrices in zip(site.operands, rows.operands, strict=False)
        ]
        found.append((space.ids_of(name), rows.out))
        found += [(space.ids_of(name, axis), matrices) for axis, matrices in rows.axes.items()]
        for ids, matrices in found:
            start = 0
            for matrix in matrices:
                yield ids[start : start + len(matrix)], matrix
                start += len(matrix)


def factors_of_products(graph: EquivariantGraph) -> Iterator[tuple[Ids, Ids]]:
    """Classes of product elements, and those of an axis (channel, order, path) they stand on."""
    space = graph.blocks
    is_axis = np.zeros(space.n, bool)
    for (_, axis), span in space.spans.items():
        is_axis[span.start : span.start + span.size] = axis is not None
    for out, factors in space.products:
        for f in factors:
            pick = is_axis[f]
            yield space.class_of[out[pick]], space.class_of[f[pick]]


def hand_to_axes(graph: EquivariantGraph, total: Values, seen: Bools) -> None:
    """Adds what product elements have to the axes that they stand on, in place."""
    before = total.copy()
    for made, factor in factors_of_products(graph):
        pick = seen[made]
        np.add.at(total, factor[pick], before[made[pick]])
        seen[factor[pick]] = True
