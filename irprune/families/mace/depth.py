"""Message-passing layers of a MACE: from the features that messages take up to the next ones.

Layer t is an interaction and a product, and adds the readout of its features to the energy. The readout
of a layer that is bypassed reads what the layer took in.
"""

from __future__ import annotations

from irprune.depth import Layer
from irprune.errors import LegalityError
from irprune.families.mace.structure import module_path
from irprune.graph import EquivariantGraph


def layers(graph: EquivariantGraph) -> list[Layer]:
    """Layers from 1 on.

    Raises:
        LegalityError: an interaction that takes up messages in another way.
    """
    takes: dict[int, str] = {}
    last = None
    for name, site in graph.sites.items():
        if site.node.op != "call_module":
            continue
        parts = module_path(graph, name).split(".")
        if parts[0] == "interactions" and parts[2:] == ["linear_up"]:
            takes[int(parts[1])] = site.operands[0].name
        elif parts[0] == "readouts" and parts[2:] in (["linear"], ["linear_1"]):
            last = site.operands[0].name
    if sorted(takes) != list(range(len(takes))) or last is None:
        raise LegalityError(
            "drop-layers: the interactions and readouts of this MACE are not those of its class (was"
            " it rewritten?); drop layers before other passes"
        )
    ends = [*(takes[t] for t in range(1, len(takes))), last]
    return [Layer(t + 1, takes[t], ends[t]) for t in range(len(takes))]
