"""Depth: message-passing layers that hand on what they take in.

A layer whose input and output have the same type can be bypassed, x(t+1) = x(t). What nothing reads
any more goes: its convolution, its radial network, its gates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from irprune.errors import LegalityError, UsageError
from irprune.graph import EquivariantGraph
from irprune.irreps import IrrepsType
from irprune.rewriting import Rewriting

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Layer:
    """One message-passing layer: the node whose value it takes in, and that of what it gives."""

    number: int
    takes: str
    gives: str


def layers_of(graph: EquivariantGraph) -> Mapping[int, Layer]:
    """The message-passing layers of a model of a family, by number.

    Raises:
        UsageError: a graph whose layers no family knows.
    """
    from irprune.families import family_of

    if graph.source is None:
        raise UsageError(
            "drop-layers needs a family that knows its layers; this graph was traced or read from a"
            " graph file. Drop layers of the checkpoint that it comes from"
        )
    return {layer.number: layer for layer in family_of(graph).layers(graph)}


def why_not(graph: EquivariantGraph, layer: Layer) -> str | None:
    """Why a layer cannot be bypassed: its two types; None where it can."""
    a, b = graph.type_of(layer.takes), graph.type_of(layer.gives)
    if isinstance(a, IrrepsType) and isinstance(b, IrrepsType) and a.same_units(b):
        return None
    return f"layer {layer.number} takes in {a} and gives {b}"


def drop(graph: EquivariantGraph, numbers: Sequence[int]) -> EquivariantGraph:
    """The graph with layers bypassed, and renumbered where its family can say that natively.

    Raises:
        UsageError: a layer that is not there, or one named twice.
        LegalityError: a layer whose types differ; names both.
    """
    from irprune.families import family_of

    known = layers_of(graph)
    wrong = [n for n in numbers if n not in known]
    if wrong or len(set(numbers)) < len(numbers):
        what = f"no layer {wrong[0]}" if wrong else "a layer is named twice"
        raise UsageError(
            f"drop-layers: layers={list(numbers)}: {what}; this model has layers"
            f" {', '.join(map(str, known))}"
        )
    edit = Rewriting(graph)
    for number in sorted(numbers):
        layer = known[number]
        reason = why_not(graph, layer)
        if reason is not None:
            raise LegalityError(
                f"drop-layers: {reason}: only a layer that gives the type that it takes in can be"
                " bypassed; choose another layer, or prune its channels"
            )
        edit.replace(edit.node(layer.gives), edit.node(layer.takes))
    small = edit.done(origin=None, claim=None)
    labels = {k: v for k, v in small.labels.items() if v in small.sites}
    gone = {f"layer {n}" for n in numbers}
    labels = {k: v for k, v in labels.items() if not any(_is(k, g) for g in gone)}
    return family_of(graph).renumbered(small.replace(labels=labels), numbers)


def _is(label: str, layer: str) -> bool:
    return label == layer or label.startswith(f"{layer} ")


def force_changes(
    graph: EquivariantGraph, dropped: Sequence[int], frames: Sequence[Atoms]
) -> dict[int, float]:
    """Layer → mean absolute change of the forces, eV/Å, if it goes after those that are dropped.

    Only layers that can go.
    """
    from irprune.api import evaluate

    found = {}
    for number, layer in layers_of(graph).items():
        if number not in dropped and why_not(graph, layer) is None:
            change = evaluate(drop(graph, (*dropped, number)), frames, graph).force_mae_ev_per_a
            found[number] = float("inf") if change is None else change
    return found
