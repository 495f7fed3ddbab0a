"""What the axes of a MACE graph are called, and what a MACE config can express."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


def layer_labels(graph: EquivariantGraph) -> Mapping[str, str]:
    """``layer 1 hidden``, ``layer 1 message``, … → node."""
    found: dict[str, str] = {}
    for name, site in graph.sites.items():
        if site.node.op != "call_module":
            continue
        parts = str(site.node.target).removeprefix("model.").split(".")
        if parts[0] == "node_embedding":
            found["embedding"] = name
        elif len(parts) == 3 and parts[0] == "interactions" and parts[2] == "reshape":
            found[f"layer {int(parts[1]) + 1} message"] = name
        elif len(parts) == 3 and parts[0] == "products" and parts[2] == "linear":
            found[f"layer {int(parts[1]) + 1} hidden"] = name
    return found
