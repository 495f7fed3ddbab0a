"""fold-onehot: what depends on the element alone is computed once per element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from torch import fx, nn

    from irprune.graph import EquivariantGraph
    from irprune.ops.base import Site
    from irprune.rewriting import Rewriting


@dataclass(frozen=True)
class FoldOnehot(Pass):
    """Partial evaluation on the element.

    Values that depend on it alone become tables with a row per element. Tensor products with one-hot
    elements become linear maps whose weights are chosen by the element. What the tables were made
    from goes.
    """

    name: ClassVar[str] = "fold-onehot"
    summary: ClassVar[str] = "tables and weights by element instead of one-hot products"
    trait: ClassVar[str] = "exact-with-fold"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    provides: ClassVar[tuple[str, ...]] = ("lowered",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)
    by_node: ClassVar[bool] = True

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with tables; ``context.results["fold-onehot"]`` says which products stayed."""
        from irprune.errors import LegalityError
        from irprune.forwarding import forwarded
        from irprune.rewriting import Rewriting

        graph = forwarded(graph)
        edit, stayed = Rewriting(graph, context), {}
        onehots = {n: s for n, s in graph.sites.items() if _elements(s) is not None}
        for name, onehot in onehots.items():
            known = _known(graph, name)
            values = _evaluate(graph, onehot, known)
            for other, value in values.items():
                if any(user.name not in known for user in graph.sites[other].node.users):
                    _table(edit, graph.sites[other], onehot, value)
            for other, site in graph.sites.items():
                if other in known or name not in [o.name for o in site.operands]:
                    continue
                if not _is_onehot_product(site, name):
                    reason = _why_not(site)
                    if reason:
                        stayed[other] = reason
                    continue
                try:
                    _by_element(edit, site, onehot)
                except LegalityError as error:
                    stayed[other] = str(error)
        context.results[self.name] = stayed
        return edit.done()


def _elements(site: Site) -> int | None:
    from irprune.functional import OneHot

    return site.module.n if isinstance(site.module, OneHot) else None


def _known(graph: EquivariantGraph, onehot: str) -> set[str]:
    """The one-hot node and every node whose rows depend on it alone, row by row."""
    from irprune.irreps import IrrepsType, Layout
    from irprune.ops.base import op_of_node

    index = graph.sites[onehot].operands[0].name
    known = {onehot}
    for name, site in graph.sites.items():
        op = op_of_node(site.node, site.module) if site.node.op.startswith("call") else None
        tensors = [o.name for o in site.operands if o.op != "get_attr"]
        looked_up = (
            op is not None
            and op.name == "getitem"
            and [o.op for o in site.operands] == ["get_attr", "placeholder"]
            and site.operands[1].name == index
        )
        if looked_up or (
            op is not None
            and op.row_wise
            and isinstance(site.out, IrrepsType)
            and site.out.layout is not Layout.MUL_X_DIM
            and tensors
            and known.issuperset(tensors)
        ):
            known.add(name)
    return known


def _evaluate(graph: EquivariantGraph, onehot: Site, known: set[str]) -> dict[str, Any]:
    """The values of the known nodes for every element once, in float64."""
    import copy

    import torch
    from torch import fx

    gm = copy.deepcopy(graph.gm).double()
    count = _elements(onehot)
    assert count is not None
    values: dict[str, Any] = {onehot.operands[0].name: torch.arange(count)}
    runner = fx.Interpreter(gm)
    runner.env = {}
    with torch.no_grad():
        for node in gm.graph.nodes:
            if node.op == "get_attr" or node.name in known:
                for o in node.all_input_nodes:
                    runner.env[o] = values[o.name]
                values[node.name] = runner.run_node(node)
    found = known - {onehot.node.name}
    return {n: v for n, v in values.items() if n in found and graph.sites[n].node.op != "get_attr"}


def _table(edit: Rewriting, site: Site, onehot: Site, value: Any) -> None:
    import torch

    from irprune.layers.elements import ElementTable
    from irprune.rewriting import path_like

    t = site.result
    table = ElementTable(int(value.shape[0]), t.irreps, rows=value.dim() == 1)
    table.table = torch.nn.Parameter(value.to(_dtype(edit)))
    node = edit.node(site.node)
    made = edit.module(node, f"{path_like(node)}_table", table, (edit.node(onehot.operands[0]),))
    edit.replace(node, made)


def _dtype(edit: Rewriting) -> Any:
    return next(p.dtype for p in edit.graph.gm.parameters() if p.is_floating_point())


LOOKED_UP = frozenset({"mace-radial-embedding", "mace-zbl", "mace-contraction"})
"""Ops that read the element out of its one-hot row; lower-contraction is for the last."""


def _why_not(site: Site) -> str:
    from irprune.ops.base import op_of_node

    op = op_of_node(site.node, site.module) if site.node.op.startswith("call") else None
    if op is not None and op.name in LOOKED_UP:
        return ""
    name = "a barrier" if op is None else op.name
    return f"{name} that reads one-hot elements has no form by element"


def _is_onehot_product(site: Site, onehot: str) -> bool:
    from e3nn import o3

    return (
        isinstance(site.module, o3.TensorProduct)
        and len(site.operands) == 2
        and site.operands[1].name == onehot
    )


def _by_element(edit: Rewriting, site: Site, onehot: Site) -> None:
    from irprune.rewriting import path_like

    made = element_linear(site.module, _elements(onehot) or 0)
    node = edit.node(site.node)
    arguments: tuple[fx.Node, ...] = (
        edit.node(site.operands[0]),
        edit.node(onehot.operands[0]),
    )
    edit.replace(node, edit.module(node, f"{path_like(node)}_by_element", made, arguments))


def element_linear(m: Any, elements: int) -> nn.Module:
    """A tensor product with one-hot elements as a linear map chosen by the element.

    Raises:
        LegalityError: a path that is no such map.
    """
    import math

    import torch

    from irprune.errors import LegalityError
    from irprune.layers.elements import ElementLinear
    from irprune.ops.tensor_product import paths_of

    paths, weights = [], []
    if len(m.irreps_in2) != 1:
        raise LegalityError(f"its second factor {m.irreps_in2} is not one run of scalars")
    for p in paths_of(m):
        ir = m.irreps_in1[p.i1].ir
        if p.mode != "uvw" or not p.weighted or ir != m.irreps_out[p.out].ir:
            raise LegalityError(f"path {p.i1} x {p.i2} -> {p.out} has mode {p.mode}; known is uvw")
        value = m.weight.detach()[p.weights].reshape(p.shape).double()
        # e3nn divides by √(2l+1), and its coefficient carries the same factor
        factor = p.coefficient / math.sqrt(ir.dim)
        paths.append((p.i1, p.out))
        weights.append((value * factor).permute(1, 0, 2).contiguous().to(m.weight.dtype))
    if not paths:
        raise LegalityError("it has no paths")
    made = ElementLinear(elements, str(m.irreps_in1), str(m.irreps_out), tuple(paths))
    for i, w in enumerate(weights):
        made.weights[i] = torch.nn.Parameter(w)
    return made
