"""Message-passing layers of a SevenNet: dropping some gives a SevenNet with fewer convolutions."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from irprune.depth import Layer
from irprune.families.sevennet.structure import Layers
from irprune.graph import EquivariantGraph, Source

_OF_LAYER = re.compile(r"^(\d+)_")
PER_LAYER = ("conv_denominator", "irreps_manual")
"""Settings with one entry per layer; the irreps have one of the embedding before them."""


def layers(graph: EquivariantGraph) -> list[Layer]:
    """Layers from 0 on: from the features before a convolution to those after its gate."""
    found = Layers.of(graph)
    return [Layer(t, found.nodes[t], found.nodes[t + 1]) for t in found.convolutions]


def renumbered(graph: EquivariantGraph, dropped: Sequence[int]) -> EquivariantGraph:
    """Later layers take the numbers of those that are gone, in paths, labels and config."""
    assert graph.source is not None
    total = int(graph.source.config["num_convolution_layer"])
    left = [t for t in range(total) if t not in dropped]
    number = {old: new for new, old in enumerate(left)}
    gm = copy.deepcopy(graph.gm)
    _rename(gm.get_submodule("model"), number)
    for node in gm.graph.nodes:
        if node.op in ("call_module", "get_attr") and str(node.target).startswith("model."):
            node.target = "model." + _moved(str(node.target).removeprefix("model."), number)
    gm.recompile()
    module = copy.deepcopy(graph.source.module)
    _rename(module, number)
    labels = {}
    for label, node in graph.labels.items():
        kind, _, old = label.partition(" ")
        labels[f"layer {number[int(old)]}" if kind == "layer" else label] = node
    source = Source(
        graph.source.family, module, _config(graph.source.config, left), graph.source.path
    )
    return graph.replace(gm=gm, source=source, labels=labels)


def _moved(path: str, number: dict[int, int]) -> str:
    match = _OF_LAYER.match(path)
    return path if match is None else f"{number[int(match[1])]}{path[len(match[1]) :]}"


def _rename(module: nn.Module, number: dict[int, int]) -> None:
    """Children of layers that stay get their new numbers; those of layers that go are left out."""
    kept: dict[str, Any] = {}
    for name, child in module._modules.items():
        match = _OF_LAYER.match(name)
        if match is None or int(match[1]) in number:
            kept[_moved(name, number)] = child
    module._modules.clear()
    module._modules.update(kept)


def _config(config: Any, left: Sequence[int]) -> dict[str, Any]:
    made = {**config, "num_convolution_layer": len(left)}
    for name in PER_LAYER:
        value = made.get(name)
        if isinstance(value, list | tuple):
            first = list(value)[: len(value) - int(config["num_convolution_layer"])]
            made[name] = [*first, *(value[len(first) + t] for t in left)]
    return made
