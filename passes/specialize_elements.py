"""specialize-elements: only the elements that a system has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class SpecializeElements(Pass):
    """Keeps the rows of the elements that are named; exact on them, an error on any other."""

    elements: tuple[str, ...] = ()
    """Chemical symbols."""

    name: ClassVar[str] = "specialize-elements"
    summary: ClassVar[str] = "only the weights of some elements"
    trait: ClassVar[str] = "exact"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    provides: ClassVar[tuple[str, ...]] = ("lowered",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph for these elements.

        Raises:
            UsageError: an element that the model does not know, or a network without elements.
            LegalityError: a node that cannot be cut to some elements; names it.
        """
        from dataclasses import replace

        import torch

        from irprune.errors import UsageError
        from irprune.rewriting import Rewriting

        if graph.atomistic is None:
            raise UsageError(f"{self.name}: this network does not run on atoms")
        known = list(graph.atomistic.symbols)
        wanted = list(self.elements)
        unknown = [s for s in wanted if s not in known]
        if unknown or not wanted:
            what = (
                f"the model does not know {', '.join(unknown)}" if wanted else "name some elements"
            )
            raise UsageError(f"{self.name}: {what}; it knows {', '.join(known)}")
        rows = sorted({known.index(s) for s in wanted})
        if len(rows) == len(known):
            return graph
        edit = Rewriting(graph)
        index = torch.tensor(rows)
        inputs, done = dict(graph.inputs), set[str]()
        species = _species(graph)
        for site in graph.sites.values():
            source = _cut(graph, edit, site, index, species, done)
            if source is not None and source in inputs:
                inputs[source] = replace(inputs[source], value=len(rows))
        numbers = tuple(graph.atomistic.atomic_numbers[r] for r in rows)
        edit.changed = True
        return edit.done(
            inputs=inputs,
            atomistic=replace(graph.atomistic, atomic_numbers=numbers),
            origin=None,
        )


def _species(graph: Any) -> set[str]:
    """The nodes that say which element an atom is: what modules by element are called with."""
    from irprune.functional import OneHot
    from irprune.layers.elements import ElementLinear, ElementTable
    from irprune.layers.polynomial import ElementPolynomial

    kinds = (OneHot, ElementTable, ElementLinear, ElementPolynomial)
    return {
        s.operands[-1].name
        for s in graph.sites.values()
        if isinstance(s.module, kinds) and s.operands[-1].op == "placeholder"
    }


def _cut(
    graph: Any, edit: Any, site: Any, rows: Any, species: set[str], done: set[str]
) -> str | None:
    """Cuts one node: modules that choose by element, and parameters that elements index.

    Returns the input that gives the elements, where the node reads it.

    Raises:
        LegalityError: a node that reads elements and cannot be cut.
    """
    import copy

    import torch

    from irprune.errors import LegalityError
    from irprune.functional import OneHot
    from irprune.layers.elements import ElementLinear, ElementTable
    from irprune.layers.polynomial import ElementPolynomial
    from irprune.layers.table import RadialTable
    from irprune.ops.base import Other, op_of_node

    def pick(parameter: Any) -> Any:
        return torch.nn.Parameter(parameter.detach()[rows].clone(), requires_grad=False)

    m = site.module
    if isinstance(m, ElementPolynomial) and site.operands[-1].op != "placeholder":
        return None  # one set of weights for all elements
    if isinstance(m, RadialTable) and m.kinds is not None:
        table: Any = edit.gm.get_submodule(str(site.node.target))
        if str(site.node.target) not in done:
            done.add(str(site.node.target))
            table.kinds = table.kinds[rows][:, rows]
        return None
    if m is not None and isinstance(m, (OneHot, ElementTable, ElementLinear, ElementPolynomial)):
        small: Any = copy.deepcopy(edit.gm.get_submodule(str(site.node.target)))
        if isinstance(m, OneHot):
            small.n = len(rows)
        elif isinstance(m, ElementTable):
            small.table = pick(small.table)
        elif isinstance(m, ElementPolynomial):
            small.weight = pick(small.weight)
        else:
            small.weights = torch.nn.ParameterList(pick(w) for w in small.weights)
        if str(site.node.target) not in done:
            done.add(str(site.node.target))
            parent, _, name = str(site.node.target).rpartition(".")
            edit.gm.get_submodule(parent)._modules[name] = small
        return str(site.operands[-1].target)
    op = op_of_node(site.node, m) if site.node.op.startswith("call") else None
    for operand, t in zip(site.operands, site.types, strict=True):
        onehot = graph.sites[operand.name].module
        if isinstance(onehot, OneHot) and not (op is not None and op.name in READS_ONEHOT):
            raise LegalityError(
                f"specialize-elements: {site.where} reads one-hot elements; run fold-onehot and"
                " lower-contraction before it"
            )
        if isinstance(t, Other) and t.kind == "param" and _by_species(site, operand, species):
            if str(operand.target) in done:
                continue
            done.add(str(operand.target))
            owner, _, leaf = str(operand.target).rpartition(".")
            module = edit.gm.get_submodule(owner)
            _set(module, leaf, pick)
    return None


READS_ONEHOT = frozenset({"mace-radial-embedding", "mace-zbl"})
"""Ops that take the element from a one-hot row and look it up in the model's atomic numbers."""


def _by_species(site: Any, operand: Any, species: set[str]) -> bool:
    """Whether a node takes rows of a parameter by element."""
    from irprune.ops.base import op_of_node

    op = op_of_node(site.node, site.module) if site.node.op.startswith("call") else None
    if op is None:
        return False
    if op.name in READS_ONEHOT:
        return True
    return op.name == "getitem" and any(
        o.name in species for o in site.operands if o is not operand
    )


def _set(module: Any, leaf: str, pick: Any) -> None:
    import torch

    value = getattr(module, leaf)
    if isinstance(value, torch.nn.Parameter):
        setattr(module, leaf, pick(value))
    else:
        module.register_buffer(leaf, pick(value).detach())
