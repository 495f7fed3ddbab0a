"""The sevenn config that describes a graph's structure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from irprune.errors import LegalityError
from irprune.families.sevennet.structure import (
    HIDDEN,
    READOUT_NET,
    SPHERICAL,
    Layers,
    mixing,
    radial,
)
from irprune.graph import EquivariantGraph
from irprune.irreps import IrrepsType, Segment

SCALAR = (0, 1)


def module_at(graph: EquivariantGraph, path: str) -> Any:
    """A module of the graph by its path in sevenn's model.

    Raises:
        LegalityError: a pass has replaced or removed it.
    """
    try:
        return graph.gm.get_submodule(path)
    except AttributeError as error:
        raise LegalityError(
            f"native:sevennet needs the layer {path.removeprefix('model.')}, which is not in the"
            " graph any more (a pass has rewritten it); use target graph"
        ) from error


@dataclass(frozen=True)
class Shape:
    """What a SevenNet config says about sizes."""

    irreps: tuple[tuple[Segment, ...], ...]
    """Of the embedding and of every layer."""
    padding: tuple[int, ...]
    """0e units at the end of the first 0e segment of each that are not in the graph."""
    lmax_edge: int
    lmax_node: int
    radial: tuple[int, ...]
    """Hidden widths of the radial networks."""
    readout: tuple[int, ...] | None
    """Hidden widths of a readout network; None where the readout is linear."""
    hidden: int | None
    """Hidden scalars of a linear readout, as the class makes them."""


def shape_of(graph: EquivariantGraph) -> Shape:
    """The sizes of a graph, and the few dead units that the class of sevenn forces upon it.

    Raises:
        LegalityError: a structure that no SevenNet config describes; names layer and sizes.
    """
    layers = Layers.of(graph)
    types = [layers.type_at(graph, i) for i in range(len(layers))]
    original = _original_irreps(graph, layers)
    padding = [0] * len(layers)
    for i, t in enumerate(types):
        # Gates are even exactly if the layer has even scalars: keep a dead one.
        if "0e" in original[i].counts() and "0e" not in t.counts():
            padding[i] = 1
        if i in layers.convolutions:
            _same_mixing(graph, layers, i, t)
    hidden = _hidden(graph, layers, types[-1], original[-1], padding)
    return Shape(
        tuple(_padded(t, n) for t, n in zip(types, padding, strict=True)),
        tuple(padding),
        _type(graph, SPHERICAL).lmax,
        max((t.lmax for t in types), default=0),
        _radial_widths(graph, layers),
        _readout_widths(graph),
        hidden,
    )


def _type(graph: EquivariantGraph, path: str) -> IrrepsType:
    module_at(graph, path)
    found = [s.out for s in graph.sites.values() if str(s.node.target) == path]
    if len(found) != 1 or not isinstance(found[0], IrrepsType):
        raise LegalityError(f"native:sevennet calls {path.removeprefix('model.')} exactly once")
    return found[0]


def _original_irreps(graph: EquivariantGraph, layers: Layers) -> list[IrrepsType]:
    assert graph.source is not None
    out = []
    for path in layers.paths:
        module: Any = graph.source.module.get_submodule(path.removeprefix("model."))
        out.append(IrrepsType.parse(str(module.irreps_out)))
    return out


def _same_mixing(graph: EquivariantGraph, layers: Layers, i: int, t: IrrepsType) -> None:
    mixed = _type(graph, mixing(i)).counts()
    for ir in {**t.counts(), **mixed}:
        a, b = t.counts().get(ir, 0), mixed.get(ir, 0)
        if a != b:
            raise LegalityError(
                f"native:sevennet cannot express this structure: {layers.labels[i]} has {a}x{ir},"
                f" but {i}_self_interaction_1, which maps it to equal irreps, gives {b}x{ir};"
                " select for target native:sevennet, or export to target graph"
            )


def _hidden(
    graph: EquivariantGraph,
    layers: Layers,
    last: IrrepsType,
    original: IrrepsType,
    padding: list[int],
) -> int | None:
    """Hidden scalars of a linear readout: half the components of the last layer, rounded down.

    Components of the original's last layer that were never read (l > 0, 0o) are dead and gone; dead
    scalars then make up for them, in the layer or in the readout.
    """
    if not _has(graph, HIDDEN):
        return None
    own, have = _type(graph, HIDDEN).n_units, last.dim + padding[-1]
    unread = any((s.l, s.p) != SCALAR for s in original)
    if have // 2 < own and unread:
        padding[-1] += 2 * own - have
    elif have // 2 != own and not (unread and have // 2 > own):
        raise LegalityError(
            f"native:sevennet cannot express this structure: {layers.labels[-1]} has {last.irreps},"
            f" so the readout has {last.dim // 2} hidden scalars, but the graph has {own};"
            " select for target native:sevennet, or export to target graph"
        )
    return (last.dim + padding[-1]) // 2


def _has(graph: EquivariantGraph, path: str) -> bool:
    return any(str(n.target) == path for n in graph.gm.graph.nodes)


def _padded(t: IrrepsType, n: int) -> tuple[Segment, ...]:
    if not n:
        return t.segments
    at = next((i for i, s in enumerate(t.segments) if (s.l, s.p) == SCALAR), None)
    if at is None:
        return (Segment(n, *SCALAR), *t.segments)
    grown = t.segments[at]._replace(mul=t.segments[at].mul + n)
    return (*t.segments[:at], grown, *t.segments[at + 1 :])


def _radial_widths(graph: EquivariantGraph, layers: Layers) -> tuple[int, ...]:
    widths = {t: _hidden_widths(module_at(graph, radial(t))) for t in layers.convolutions}
    if len(set(widths.values())) > 1:
        raise LegalityError(
            "native:sevennet has one list of radial widths for all layers, but this graph has "
            + ", ".join(f"{list(w)} in layer {t}" for t, w in widths.items())
            + "; select for target native:sevennet, or export to target graph"
        )
    return next(iter(widths.values()))


def _hidden_widths(net: nn.Module) -> tuple[int, ...]:
    sizes: Any = net.hs
    return tuple(int(h) for h in sizes[1:-1])


def _readout_widths(graph: EquivariantGraph) -> tuple[int, ...] | None:
    if not _has(graph, READOUT_NET):
        return None
    return _hidden_widths(module_at(graph, READOUT_NET))


def config_for(graph: EquivariantGraph, shape: Shape) -> dict[str, Any]:
    """The source's config with the sizes of ``shape``, in plain Python values.

    What the shape does not change is left as it was.
    """
    assert graph.source is not None
    config = {k: plain(v) for k, v in graph.source.config.items()}
    irreps = ["+".join(map(str, s)) for s in shape.irreps]
    original = [t.irreps for t in _original_irreps(graph, Layers.of(graph))]
    before = _effective(config)
    if irreps != original:
        config["irreps_manual"] = irreps
        config["channel"] = sum(s.mul for s in shape.irreps[0])
    after = (shape.lmax_edge, min(before[1], shape.lmax_node))
    if after != before:
        config.update(_orders(*after))
    config["weight_nn_hidden_neurons"] = list(shape.radial)
    if shape.readout is not None:
        config["readout_fcn_hidden_neurons"] = list(shape.readout)
    return config


def _effective(config: Mapping[str, Any]) -> tuple[int, int]:
    """(lmax_edge, lmax_node) as sevenn reads them: 0 and −1 mean ``lmax``."""
    lmax = int(config["lmax"])
    edge, node = int(config["lmax_edge"]), int(config["lmax_node"])
    return (edge if edge > 0 else lmax), (node if node > 0 else lmax)


def _orders(edge: int, node: int) -> dict[str, int]:
    """Settings that mean these orders: only ``lmax`` can say 0."""
    if edge == 0:
        return {"lmax": 0, "lmax_edge": -1, "lmax_node": node if node > 0 else -1}
    return {"lmax": node, "lmax_edge": edge, "lmax_node": -1}


def plain(value: Any) -> Any:
    """numpy and torch values as lists and numbers, which load without unpickling code."""
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(v) for v in value)
    return copy.deepcopy(value)
