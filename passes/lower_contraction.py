"""lower-contraction: a contraction as the sparse polynomial that it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from torch import fx

    from irprune.graph import EquivariantGraph
    from irprune.ops.base import Site
    from irprune.rewriting import Rewriting


@dataclass(frozen=True)
class LowerContraction(Pass):
    """Replaces symmetric contractions by polynomials with weights gathered by element.

    What cannot be lowered stays as it is and is named, with the reason, in the results.
    """

    name: ClassVar[str] = "lower-contraction"
    summary: ClassVar[str] = "symmetric contractions as sparse polynomials"
    trait: ClassVar[str] = "exact"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    provides: ClassVar[tuple[str, ...]] = ("lowered",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)
    by_node: ClassVar[bool] = True

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with polynomials; ``context.results["lower-contraction"]`` says what stayed."""
        import torch

        from irprune.errors import LegalityError
        from irprune.layers.polynomial import ElementPolynomial
        from irprune.ops.base import op_of_node
        from irprune.rewriting import Rewriting, path_like

        edit, stayed = Rewriting(graph, context), {}
        for name, site in graph.sites.items():
            op = op_of_node(site.node, site.module) if site.module is not None else None
            lowered = None if op is None else op.polynomial(site)
            if lowered is None:
                continue
            node = edit.node(site.node)
            try:
                source = _flat(graph, site)
                species = _species(graph, site, edit, node)
            except LegalityError as error:
                stayed[name] = str(error)
                continue
            spec, weight = lowered
            module = ElementPolynomial(spec, int(weight.shape[0]))
            module.weight = torch.nn.Parameter(weight.detach().clone(), requires_grad=False)
            path = f"{path_like(node)}_polynomial"
            made = edit.module(node, path, module, (edit.node(source), species))
            edit.replace(node, made)
        context.results[self.name] = stayed
        return edit.done()


def _species(graph: EquivariantGraph, site: Site, edit: Rewriting, before: fx.Node) -> fx.Node:
    """The element index behind the one-hot operand; zeros where all elements share the weights.

    Raises:
        LegalityError: the operand is something else.
    """
    from irprune.errors import LegalityError
    from irprune.functional import OneHot, first_element
    from irprune.ops.base import op_of_node

    source = graph.sites[site.operands[1].name]
    op = op_of_node(source.node, source.module) if source.node.op.startswith("call") else None
    if op is not None and op.name == "ones-column":
        return edit.call(before, first_element, edit.node(source.operands[0]))
    if not isinstance(source.module, OneHot):
        raise LegalityError(f"its weights are chosen by {source.node.name}, not one-hot elements")
    return edit.node(source.operands[0])


def _flat(graph: EquivariantGraph, site: Site) -> Any:
    """What the reshaping before the contraction was given.

    Raises:
        LegalityError: nothing reshapes.
    """
    from irprune.errors import LegalityError
    from irprune.irreps import IrrepsType, Layout

    source = graph.sites[site.operands[0].name]
    t = source.types[0] if source.types else None
    if len(source.operands) != 1 or not isinstance(t, IrrepsType) or t.layout is not Layout.MUL_IR:
        raise LegalityError(f"its message comes from {source.node.name}, which does not reshape it")
    return source.operands[0]
