"""The specs that ``tune`` and ``bench`` work on: those of a model, or problems by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from irprune.errors import UsageError

if TYPE_CHECKING:
    from irprune.cli.common import Session


@dataclass(frozen=True)
class NamedSpec:
    """A spec and what it is called."""

    name: str
    """A problem, or the module of a model."""
    spec: Any
    dtype: str
    degree: float
    """Edges per node."""


def named_specs(
    session: Session, model: str | None, problems: Sequence[str], degree: float | None
) -> list[NamedSpec]:
    """Every spec once, those of the model first.

    A model that is not lowered yet is optimized first. ``degree`` stands for the model's own average
    number of neighbours, or for 40.

    Raises:
        UsageError: neither a model nor a problem, a problem that is not known, or a model without any
            node that a kernel could serve.
    """
    from irprune.cost import DEFAULT_EDGES_PER_ATOM
    from irprune.specs.problems import problem_named

    if model is None and not problems:
        raise UsageError("name a MODEL, or a kernel with --problem")
    usual = DEFAULT_EDGES_PER_ATOM if degree is None else degree
    found = [] if model is None else _of_model(session, model, degree)
    dtype = session.dtype or "float32"
    return found + [NamedSpec(name, problem_named(name), dtype, usual) for name in problems]


def _of_model(session: Session, model: str, degree: float | None) -> list[NamedSpec]:
    from irprune import api
    from irprune.cost import DEFAULT_EDGES_PER_ATOM
    from irprune.kernelplan import dtype_of, kernel_nodes

    graph = session.load(model)
    if "lowered" not in graph.facts:
        graph = api.optimize(graph, verify=False)
    dtype = str(dtype_of(graph.gm)).removeprefix("torch.")
    edges = degree or graph.edges_per_atom or DEFAULT_EDGES_PER_ATOM
    found: dict[str, NamedSpec] = {}
    for node, module in kernel_nodes(graph.gm):
        spec = module.spec
        found.setdefault(spec.key, NamedSpec(str(node.target), spec, dtype, edges))
    if not found:
        raise UsageError(f"no node of {model} can have a kernel")
    return list(found.values())
