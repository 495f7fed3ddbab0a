"""What the axes of a MACE graph are called, and what a MACE config can express.

From the builder in ``mace/modules/models.py`` (0.3.16):

- one channel count K: the embedding, the copies of every order of the hidden features, the messages
  of all layers, and (without ``edge_irreps``) the node features that a message takes up;
- the hidden orders are the same in all layers but the last, which has scalars only (unless
  ``keep_last_layer_irreps``);
- the harmonics have orders 0 … ``max_ell``, and so have the messages of all layers;
- with ``edge_irreps``, what messages take up has its own count per order, the same in all layers;
- ``radial_MLP``: one list of widths for all layers; ``MLP_irreps``: one width for all heads;
- every tensor-product path between kept orders exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from irprune.blocks import Axis
from irprune.errors import LegalityError, UsageError
from irprune.families.base import Legal, OrderTie, Tie
from irprune.graph import EquivariantGraph
from irprune.irreps import IrrepsType

TARGET = "native:mace"


def module_path(graph: EquivariantGraph, node: str) -> str:
    """Path of the module that a node calls, within the MACE model."""
    return str(graph.sites[node].node.target).removeprefix("model.")


def layer_labels(graph: EquivariantGraph) -> Mapping[str, str]:
    """``embedding``, ``layer 1 message``, ``layer 1 hidden``, … → the node that makes it."""
    found: dict[str, str] = {}
    for name, site in graph.sites.items():
        if site.node.op != "call_module":
            continue
        parts = module_path(graph, name).split(".")
        if parts[0] == "node_embedding":
            found["embedding"] = name
        elif len(parts) == 3 and parts[0] == "interactions" and parts[2] == "reshape":
            found[f"layer {int(parts[1]) + 1} message"] = name
        elif len(parts) == 3 and parts[0] == "products" and parts[2] == "linear":
            found[f"layer {int(parts[1]) + 1} hidden"] = name
    return found


@dataclass(frozen=True)
class Sorted:
    """The axes of a MACE graph, by their role."""

    channels: tuple[Axis, ...]
    """Everything whose count is K."""
    edges: Mapping[str, tuple[Axis, ...]]
    """irrep → axes of what messages take up, where ``edge_irreps`` sets them apart from K."""
    radial: Mapping[str, tuple[Axis, ...]]
    """hidden layer → axes over the interactions."""
    readout: tuple[Axis, ...]
    ells: tuple[Axis, ...]
    """Orders of the harmonics and of the messages."""
    hidden_orders: tuple[Axis, ...]
    frozen: tuple[Axis, ...]


_WIDE = ("source_embedding", "target_embedding", "linear", "linear_1", "linear_2", "skip_tp",
         "equivariant_nonlin", "reshape", "linear_res", "skip_linear")  # fmt: skip


def sort_axes(graph: EquivariantGraph) -> Sorted:
    """Every axis of the graph, by what decides its size in a MACE config."""
    model = _model(graph)
    apart = getattr(model, "edge_irreps", None) is not None
    first = bool(getattr(model, "use_edge_irreps_first", False))
    last = len(model.interactions) - 1
    orders_fit = _orders_are_positions(graph)
    channels: list[Axis] = []
    readout: list[Axis] = []
    ells: list[Axis] = []
    hidden: list[Axis] = []
    frozen: list[Axis] = []
    edges: dict[str, list[Axis]] = {}
    radial: dict[str, list[Axis]] = {}
    for axis in graph.axes():
        parts = module_path(graph, axis.node).split(".")
        layer = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else -1
        role = parts[2] if len(parts) > 2 else ""
        if parts[0] == "spherical_harmonics" or (role == "reshape" and axis.kind == "order"):
            (ells if orders_fit else frozen).append(axis)
        elif role == "symmetric_contractions":
            (hidden if layer < last and orders_fit else frozen).append(axis)
        elif axis.kind == "path" or role in ("density_fn", "linear_down"):
            frozen.append(axis)
        elif role == "conv_tp_weights":
            if (
                type(model.interactions[layer]).__name__
                == "RealAgnosticAttResidualInteractionBlock"
            ):
                frozen.append(axis)  # its widths are written into the class
            else:
                radial.setdefault(axis.ir, []).append(axis)
        elif role == "linear_up" and apart and (layer > 0 or first):
            edges.setdefault(axis.ir, []).append(axis)
        elif parts[0] in ("node_embedding", "products") or role in ("linear_up", *_WIDE):
            channels.append(axis)
        elif parts[0] == "readouts":
            readout.append(axis)
        else:
            frozen.append(axis)
    return Sorted(
        tuple(channels),
        {k: tuple(v) for k, v in edges.items()},
        {k: tuple(v) for k, v in radial.items()},
        tuple(readout),
        tuple(ells),
        tuple(hidden),
        tuple(frozen),
    )


def _model(graph: EquivariantGraph) -> Any:
    if graph.source is None or graph.source.family != "mace":
        raise LegalityError(
            "this graph was not loaded from a MACE checkpoint, so it has no MACE config; use target"
            " graph"
        )
    return graph.source.module


def _orders_are_positions(graph: EquivariantGraph) -> bool:
    """Whether the i-th segment of every harmonics, message and hidden type has l = i."""
    types = [graph.type_of(node) for node in layer_labels(graph).values()]
    return all(
        [s.l for s in t] == list(range(len(t.segments))) for t in types if isinstance(t, IrrepsType)
    )


def legal(graph: EquivariantGraph) -> Legal:
    """What native:mace can express; see the module's description."""
    found = sort_axes(graph)

    def tie(label: str, axes: tuple[Axis, ...]) -> Tie:
        return Tie(label, tuple((a.name, 1) for a in axes))

    ties = [tie("channels", found.channels)] if found.channels else []
    ties += [tie(f"edge {ir}", axes) for ir, axes in found.edges.items()]
    ties += [tie(f"radial {name}", axes) for name, axes in found.radial.items()]
    if found.readout:
        ties.append(tie("readout", found.readout))
    orders = []
    if found.ells:
        orders.append(OrderTie("max_ell", tuple(a.name for a in found.ells)))
    if found.hidden_orders:
        orders.append(OrderTie("hidden orders", tuple(a.name for a in found.hidden_orders)))
    return Legal(TARGET, tuple(ties), tuple(orders), tuple(a.name for a in found.frozen))


def hidden_counts(graph: EquivariantGraph) -> dict[str, int]:
    """Copies of each irrep of the hidden features: the most that a layer has."""
    have: dict[str, int] = {}
    for label, node in layer_labels(graph).items():
        t = graph.type_of(node)
        if isinstance(t, IrrepsType) and not label.endswith("message"):
            for ir, n in t.counts().items():
                have[ir] = max(n, have.get(ir, 0))
    return have


def counts_for(graph: EquivariantGraph, irreps: str) -> Mapping[str, int]:
    """Groups to keep per axis for a target structure of the hidden features.

    Irreps that are not named go, from all layers; the messages keep as many channels as the largest
    count, the embedding as many as there are scalars. ``64x0e+64x1o`` is a structure of native:mace;
    with different counts, such as ``64x0e+32x1o``, it is one of the targets surgery and graph.

    Raises:
        UsageError: not irreps, or an irrep named twice.
        LegalityError: larger than the model; names both structures.
    """
    asked_type = IrrepsType.parse(irreps)
    asked, have = asked_type.counts(), hidden_counts(graph)
    text = "+".join(f"{n}x{ir}" for ir, n in have.items())
    if len(asked) < len(asked_type.segments):
        raise UsageError(f"to={irreps} names an irrep twice; name each of {text} once at most")
    for ir, n in asked.items():
        if n > have.get(ir, 0):
            raise LegalityError(
                f"to={irreps} asks for {n}x{ir}, but the hidden features of this model are {text}"
            )
    if not asked.get("0e"):
        raise LegalityError(
            f"to={irreps} keeps no scalars, which MACE's energies are read from; keep at least 1x0e"
            f" of {text}"
        )
    asked = {ir: n for ir, n in asked.items() if n}
    found, most = sort_axes(graph), max(asked.values())
    counts: dict[str, int] = {}
    for axis in found.channels:
        parts = module_path(graph, axis.node).split(".")
        role = parts[2] if len(parts) > 2 else ""
        if parts[0] == "products" or role == "linear_up":
            wanted = asked.get(axis.ir, 0)
        elif parts[0] == "node_embedding" or role.endswith("_embedding"):
            wanted = asked["0e"]
        else:
            wanted = most
        counts[axis.name] = min(wanted, len(axis.groups))
    return counts
