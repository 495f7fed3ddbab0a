"""What scores say about a model: by axis, by layer, and how far their ranking can be trusted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from irprune.errors import UsageError

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph

Values = NDArray[np.float64]

READOUT = "readout"
"""What comes after the last layer that a family names."""


def layer_of_axes(graph: EquivariantGraph) -> dict[str, str]:
    """Axis → the layer that it lives in: the first whose result is made where the axis is, or later.

    Layers are those of ``graph.labels``; a graph without labels is one layer, ``model``.
    """
    position = {name: i for i, name in enumerate(graph.sites)}
    ends = sorted((position[node], label) for label, node in graph.labels.items())
    names = [label for _, label in ends] + [READOUT if ends else "model"]
    places = [end for end, _ in ends]
    return {a.name: names[bisect_left(places, position[a.node])] for a in graph.axes()}


def total(graph: EquivariantGraph, values: Values) -> float | None:
    """Sum of the scores of all groups that can be removed; None where none has a score."""
    return _sum(values[[c for a in graph.axes() for c in a.groups]])


def by_layer(graph: EquivariantGraph, values: Values) -> dict[str, float | None]:
    """Sum of the scores of the groups that live in each layer, in the order of the layers."""
    found: dict[str, list[int]] = {}
    layers = layer_of_axes(graph)
    for axis in graph.axes():
        found.setdefault(layers[axis.name], []).extend(axis.groups)
    order = [*graph.irreps_per_layer(), READOUT, "model"]
    return {name: _sum(values[found[name]]) for name in order if name in found}


def by_axis(graph: EquivariantGraph, values: Values) -> list[dict[str, Any]]:
    """Scores of every axis that pruning can decide about: blocks (k, l), neurons, paths, orders."""
    layers = layer_of_axes(graph)
    return [
        {
            "name": a.name,
            "layer": layers[a.name],
            "kind": a.kind,
            "irrep": a.ir,
            "scores": values[list(a.groups)].tolist(),
        }
        for a in graph.axes()
    ]


def stability(
    graph: EquivariantGraph, halves: tuple[Values, Values] | None
) -> dict[str, Any] | None:
    """Spearman's rank correlation between the scores of two halves of the data.

    ``overall`` over all groups that can be removed, and for each axis; None where a rank means
    nothing: fewer than three groups, equal scores, or no score. None altogether without halves.
    """
    if halves is None:
        return None
    groups = [c for a in graph.axes() for c in a.groups]
    return {
        "overall": rank_correlation(halves[0][groups], halves[1][groups]),
        "axes": {
            a.name: rank_correlation(halves[0][list(a.groups)], halves[1][list(a.groups)])
            for a in graph.axes()
        },
    }


def rank_correlation(a: Values, b: Values) -> float | None:
    """Spearman's ρ of what is finite in both; None for fewer than three, or all equal."""
    from scipy.stats import rankdata

    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3:
        return None
    x, y = (rankdata(v[both]) for v in (a, b))
    if not np.ptp(x) or not np.ptp(y):
        return None
    return float(np.corrcoef(x, y)[0, 1])


def scores_json(graph: EquivariantGraph) -> Mapping[str, Any]:
    """The detail of a graph's scores with ``axes``: every score of every axis.

    Raises:
        UsageError: the graph has no scores.
    """
    if graph.scores is None:
        raise UsageError("the graph has no scores; run score first")
    return {**graph.scores.detail, "axes": by_axis(graph, graph.scores.values)}


def _sum(values: Values) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.sum()) if len(known) else None
