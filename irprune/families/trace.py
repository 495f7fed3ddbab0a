"""From a loaded checkpoint to a graph: the same for every family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from irprune.families import register_ops
from irprune.families.base import Family, Loaded
from irprune.graph import EquivariantGraph, Source
from irprune.irreps import IrrepsType, Space
from irprune.ops.base import Other
from irprune.tracing.capture import capture

if TYPE_CHECKING:
    from irprune.atomistic import Atomistic


def input_types(atomistic: Atomistic) -> dict[str, Any]:
    """Types of the inputs that every interatomic potential has, in order.

    ``edge_vectors`` [E, 3] Å, ``species`` [N], ``edge_index`` [2, E], ``head`` [N].
    """
    return {
        "edge_vectors": IrrepsType.parse("1x1o", Space.EDGE),
        "species": Other("index", rows="node", value=len(atomistic.atomic_numbers)),
        "edge_index": Other("edge_index"),
        "head": Other("index", rows="node", value=len(atomistic.heads)),
    }


def trace_family(family: Family, loaded: Loaded) -> EquivariantGraph:
    """Traces the family's energy core over the loaded module, types it and labels its layers.

    Raises:
        IrrepsTypeError: values of the model that do not fit; names the nodes.
    """
    register_ops(family.name)
    core = family.core(loaded)
    gm = capture(core, family.replacements())
    inputs = input_types(loaded.atomistic)
    with torch.no_grad():
        graph = EquivariantGraph.build(
            gm,
            {n.name: inputs[str(n.target)] for n in gm.graph.nodes if n.op == "placeholder"},
            atomistic=loaded.atomistic,
            source=Source(family.name, loaded.module, loaded.config, loaded.path),
        )
    return graph.replace(labels=family.labels(graph))
