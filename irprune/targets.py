"""Targets: what a pruned model must be able to be, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from irprune.errors import LegalityError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from irprune.families.base import Legal
    from irprune.graph import EquivariantGraph


def resolve(graph: EquivariantGraph, target: str) -> str:
    """The tier that a target means for this graph: ``native``, ``surgery`` or ``graph``.

    ``auto`` is the native format of the family that the graph came from, and ``graph`` for a
    network that a user traced.

    Raises:
        UsageError: an unknown target, or one of another family.
        LegalityError: a family's format for a graph whose ops have been lowered.
    """
    family = graph.source.family if graph.source is not None else None
    lowered = "lowered" in graph.facts
    if target == "auto":
        return "native" if family and not lowered else "graph"
    if target == "graph":
        return "graph"
    tier, _, wanted = target.partition(":")
    if tier not in ("native", "surgery") or (tier == "native" and not wanted):
        raise UsageError(
            f"unknown target {target!r}; known: auto, native:FAMILY, surgery and graph"
        )
    if lowered:
        raise LegalityError(
            f"target {target!r} does not fit: exact passes have put ops into this graph that no"
            " family has; use the target graph, or export before them"
        )
    if family is None:
        raise UsageError(f"target {target!r} needs a model of a family; this graph was traced")
    if wanted and wanted != family:
        raise UsageError(f"target {target!r} does not fit: this model is a {family} model")
    return tier


def check_name(path: Path, tier: str) -> None:
    """Refuses a name under which the file could not be read again.

    Raises:
        UsageError: ``.safetensors`` for a pickle: torch goes by the name.
    """
    if tier != "graph" and path.suffix == ".safetensors":
        raise UsageError(
            f"cannot write {path}: a {tier} file is a pickle, and torch reads what is called"
            " .safetensors as something else; name it .pth or .model, or take the target graph"
        )


def legal_for(graph: EquivariantGraph, target: str) -> Legal | None:
    """The constraints of a target; None where anything goes."""
    if resolve(graph, target) != "native":
        return None
    from irprune.families import family_of

    return family_of(graph).legal(graph)


def counts_for(graph: EquivariantGraph, irreps: str) -> Mapping[str, int]:
    """Groups to keep on each axis for an explicit structure.

    Raises:
        UsageError: the graph has no family that could say what the structure means.
        LegalityError: larger than the model, or not a structure of the family.
    """
    if graph.source is None:
        raise LegalityError(
            f"to={irreps} needs a family that knows its layers; for a traced network use keep=,"
            " params= or flops="
        )
    from irprune.families import family_of

    return family_of(graph).counts_for(graph, irreps)
