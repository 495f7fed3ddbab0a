"""Layers, ties and target structures of SevenNet models.

What the class of sevenn can say, from ``sevenn/model_build.py``:

- ``irreps_manual``: the irreps of the embedding and of every layer, freely;
- ``self_interaction_1`` maps a layer's input irreps to the same irreps;
- ``weight_nn_hidden_neurons``: one list of widths for the radial networks of all layers;
- ``reduce_input_to_hidden`` has half as many scalars as the last layer has components;
- edge attributes have the orders 0 … ``lmax_edge``, and every tensor-product path whose result has
  l ≤ ``lmax_node`` exists: paths cannot be chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from irprune.blocks import Axis
from irprune.errors import LegalityError
from irprune.families.base import Legal, OrderTie, Tie
from irprune.graph import EquivariantGraph
from irprune.irreps import IrrepsType

EMBEDDING = "model.onehot_to_feature_x.linear"
SPHERICAL = "model.edge_embedding.spherical.sph"
HIDDEN = "model.reduce_input_to_hidden.linear"
ENERGY = "model.reduce_hidden_to_energy.linear"
READOUT_NET = "model.readout_FCN.fcn"
_GATE = re.compile(r"^model\.(\d+)_equivariant_gate\.gate$")
_PER_LAYER = "|"


def mixing(layer: int) -> str:
    """Module path of ``self_interaction_1``, the linear map before the convolution."""
    return f"model.{layer}_self_interaction_1.linear"


def radial(layer: int) -> str:
    """Module path of the network that makes path weights from distance."""
    return f"model.{layer}_convolution.weight_nn"


@dataclass(frozen=True)
class Layers:
    """The feature values of a model: ``labels[i]`` is made by module ``paths[i]``, in order."""

    labels: tuple[str, ...]
    paths: tuple[str, ...]
    nodes: tuple[str, ...]

    @classmethod
    def of(cls, graph: EquivariantGraph) -> Layers:
        found = []
        for node in graph.gm.graph.nodes:
            path = str(node.target)
            if node.op != "call_module":
                continue
            if path == EMBEDDING:
                found.append((-1, "embedding", path, node.name))
            elif (match := _GATE.match(path)) is not None:
                found.append((int(match[1]), f"layer {match[1]}", path, node.name))
        if [f[0] for f in sorted(found)] != list(range(-1, len(found) - 1)):
            raise LegalityError(
                "this graph is not a SevenNet model: expected an embedding and gates numbered from"
                f" 0, found {', '.join(f[2] for f in found) or 'none'}"
            )
        _, labels, paths, nodes = zip(*sorted(found), strict=True)
        return cls(labels, paths, nodes)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def convolutions(self) -> range:
        return range(len(self) - 1)

    def type_at(self, graph: EquivariantGraph, i: int) -> IrrepsType:
        t = graph.type_of(self.nodes[i])
        assert isinstance(t, IrrepsType)
        return t


class AxisBook:
    """The axes of a graph by module path."""

    def __init__(self, graph: EquivariantGraph) -> None:
        self._by_path: dict[str, list[Axis]] = {}
        for axis in graph.axes():
            node = graph.sites[axis.node].node
            self._by_path.setdefault(str(node.target), []).append(axis)

    def channels(self, path: str) -> list[Axis]:
        """Axes of the units that a module makes, by segment."""
        found = [a for a in self._by_path.get(path, ()) if a.kind == "channel"]
        return sorted(found, key=lambda a: a.segment)

    def internal(self, path: str, name: str) -> Axis | None:
        return next((a for a in self._by_path.get(path, ()) if a.ir == name), None)

    def kinds(self, kind: str) -> Iterator[Axis]:
        return (a for axes in self._by_path.values() for a in axes if a.kind == kind)


def layer_labels(graph: EquivariantGraph) -> dict[str, str]:
    """``embedding``, ``layer 0``, … → the node with the features that come out of it."""
    layers = Layers.of(graph)
    return dict(zip(layers.labels, layers.nodes, strict=True))


def legal(graph: EquivariantGraph) -> Legal:
    """What native:sevennet can express; see the module's description."""
    layers, book = Layers.of(graph), AxisBook(graph)
    partners: dict[str, list[tuple[str, int]]] = {}
    order: list[Axis] = []
    label: dict[str, str] = {}
    for i, path in enumerate(layers.paths):
        mixed = book.channels(mixing(i)) if i in layers.convolutions else []
        for axis in book.channels(path):
            order.append(axis)
            label[axis.name] = f"{layers.labels[i]} {axis.ir}"
            twin = next((m for m in mixed if m.ir == axis.ir), None)
            if twin is not None:
                mixed.remove(twin)
                partners.setdefault(axis.name, []).append((twin.name, 1))
    ties: list[Tie] = [
        Tie(label[a.name], ((a.name, 1), *partners[a.name])) for a in order if a.name in partners
    ]
    ties += _readout_tie(layers, book)
    ties += _radial_ties(layers, book)
    edges = tuple(a.name for a in book.kinds("edge"))
    return Legal(
        "native:sevennet",
        ties=tuple(ties),
        orders=(OrderTie("lmax_edge", edges),) if edges else (),
        frozen=tuple(a.name for a in book.kinds("path")),
    )


def _readout_tie(layers: Layers, book: AxisBook) -> list[Tie]:
    """Two scalars of the last layer for one hidden scalar of the readout."""
    hidden = book.channels(HIDDEN)
    last = [a for a in book.channels(layers.paths[-1]) if a.ir == "0e"]
    if not hidden or not last:
        return []
    members = ((last[0].name, 2), (hidden[0].name, 1))
    return [Tie(f"{layers.labels[-1]} 0e", members)]


def _radial_ties(layers: Layers, book: AxisBook) -> list[Tie]:
    ties: list[Tie] = []
    depth = 0
    while True:
        found = [book.internal(radial(t), f"hidden{depth}") for t in layers.convolutions]
        members = tuple((a.name, 1) for a in found if a is not None)
        if not members:
            return ties
        ties.append(Tie(f"radial hidden{depth}", members))
        depth += 1


def counts_for(graph: EquivariantGraph, irreps: str) -> dict[str, int]:
    """Groups to keep per axis for a target structure.

    Args:
        graph: a SevenNet model.
        irreps: one irreps string for all layers, of which each keeps what it has
            (``64x0e+32x1e``; the embedding and the last layer then keep the scalars), or one string
            per layer from the embedding on, separated by ``|``, as in sevenn's ``irreps_manual``.

    Raises:
        UsageError: a string that is not irreps.
        LegalityError: more than the model has, an irrep it lacks, or no scalars; names the layer.
    """
    layers, book = Layers.of(graph), AxisBook(graph)
    have = [layers.type_at(graph, i).counts() for i in range(len(layers))]
    parts = [IrrepsType.parse(p).counts() for p in irreps.split(_PER_LAYER)]
    if len(parts) == 1:
        _check_all(parts[0], have, layers)
        wanted = [{ir: min(n, own.get(ir, 0)) for ir, n in parts[0].items()} for own in have]
    elif len(parts) == len(layers):
        wanted = parts
        for label, asked, own in zip(layers.labels, wanted, have, strict=True):
            _check_layer(label, asked, own)
    else:
        raise LegalityError(
            f"{irreps!r} has {len(parts)} parts; give one irreps string for all layers, or"
            f" {len(layers)} separated by {_PER_LAYER!r}: {', '.join(layers.labels)}"
        )
    for label, asked, own in zip(layers.labels, wanted, have, strict=True):
        if own.get("0e") and not asked.get("0e"):
            raise LegalityError(
                f"{label} would keep no 0e scalars, which SevenNet's gates and readout need; ask"
                f" for at least 1x0e (it has {own['0e']}x0e)"
            )
    counts: dict[str, int] = {}
    for i, path in enumerate(layers.paths):
        counts.update(_spread(book.channels(path), wanted[i]))
        if i in layers.convolutions:
            counts.update(_spread(book.channels(mixing(i)), wanted[i]))
    counts.update(_hidden_count(layers, book, wanted[-1]))
    return counts


def _check_all(asked: Mapping[str, int], have: list[dict[str, int]], layers: Layers) -> None:
    for ir, n in asked.items():
        most, label = max(
            ((own.get(ir, 0), name) for own, name in zip(have, layers.labels, strict=True)),
            key=lambda x: x[0],
        )
        if n > most:
            known = f"the most that a layer has is {most}x{ir} ({label})"
            lacks = f"no layer of the model has {ir} ({layers.labels[1]} is {_text(have[1])})"
            raise LegalityError(f"cannot keep {n}x{ir}: {known if most else lacks}")


def _check_layer(label: str, asked: Mapping[str, int], own: Mapping[str, int]) -> None:
    for ir, n in asked.items():
        if n > own.get(ir, 0):
            raise LegalityError(f"cannot keep {n}x{ir} in {label}, which has {_text(own)}")


def _text(counts: Mapping[str, int]) -> str:
    return "+".join(f"{n}x{ir}" for ir, n in counts.items())


def _spread(axes: list[Axis], wanted: Mapping[str, int]) -> dict[str, int]:
    """Counts per axis; an irrep that has several segments fills the first ones first."""
    left = dict(wanted)
    out = {}
    for axis in axes:
        out[axis.name] = min(left.get(axis.ir, 0), len(axis.groups))
        left[axis.ir] = left.get(axis.ir, 0) - out[axis.name]
    return out


def _hidden_count(layers: Layers, book: AxisBook, last: Mapping[str, int]) -> dict[str, int]:
    hidden = book.channels(HIDDEN)
    if not hidden:
        return {}
    n = last.get("0e", 0)
    if n < 2:
        raise LegalityError(
            f"{layers.labels[-1]} would keep {n}x0e, but SevenNet's readout has half as many hidden"
            " scalars and needs one; keep at least 2x0e there"
        )
    return {hidden[0].name: min(n // 2, len(hidden[0].groups))}
