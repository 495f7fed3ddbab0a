"""The same structure with new random weights: what a pruned model has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irprune.errors import LegalityError

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


def fresh(graph: EquivariantGraph, seed: int) -> EquivariantGraph:
    """The family's own class, built from the config of the structure and initialised as it does.

    What is not learned from the structures that a model trains on stays that of ``graph``: reference
    energies of the elements, scale and shift, the average number of neighbours, radial cutoffs.

    Raises:
        LegalityError: the structure has no config of its family; a model of that structure cannot be
            trained from scratch in it.
    """
    from irprune.families import family_of
    from irprune.families.trace import trace_family

    if graph.source is None:
        raise LegalityError(
            "only a structure that its family can build can begin with new weights; this graph"
            " comes from no family"
        )
    family = family_of(graph)
    made = trace_family(family, family.fresh(graph, seed))
    dtype = next(p.dtype for p in graph.gm.parameters() if p.is_floating_point())
    return made.replace(gm=made.gm.to(dtype))
