"""lay-out: rows of irreps in the layout that kernels read, with the fewest conversions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from torch import fx

    from irprune.graph import EquivariantGraph
    from irprune.irreps import Layout
    from irprune.laying import LayoutPlan
    from irprune.ops.base import Site
    from irprune.rewriting import Rewriting


@dataclass(frozen=True)
class LayOut(Pass):
    """Moves what has kernels to another layout of rows, and converts at its borders.

    A conversion and its inverse between neighbours cancel. Sums, gathers, scatters, factors, gates and
    tables compute the same in both layouts, and take the one with which fewer conversions are left:
    the fewest that there can be (a minimum cut).
    """

    layout: Literal["ir_mul", "mul_ir"] = "ir_mul"
    """``ir_mul`` for GPUs; ``mul_ir`` takes that back."""

    name: ClassVar[str] = "lay-out"
    summary: ClassVar[str] = "rows in the layout of the kernels, few conversions"
    trait: ClassVar[str] = "exact"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    provides: ClassVar[tuple[str, ...]] = ("lowered",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)
    by_node: ClassVar[bool] = True

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph in the layout; ``context.results["lay-out"]`` counts the conversions that moved
        nodes need alone (``made``), those that ``cancelled``, and those that are ``left``, and names
        at which value and for whom (``borders``).
        """
        from irprune.irreps import Layout
        from irprune.laying import plan_layouts
        from irprune.rewriting import Rewriting

        plan = plan_layouts(graph.sites, Layout(self.layout), context.only)
        context.results[self.name] = plan.to_json()
        if plan.is_done:
            return graph
        edit = Rewriting(graph, context)
        for name in plan.labels:
            _rewrite(edit, plan, name)
        return edit.done()


def _rewrite(edit: Rewriting, plan: LayoutPlan, name: str) -> None:
    """Gives one node its module and its operands in its layout."""
    site, node, layout = plan.sites[name], edit.node(name), plan.labels[name]
    given = {o: edit.node(o) for o in site.operands}
    wanted = {o: _in_layout(edit, plan, o, layout) for o in plan.read(name)}
    # of operands that are not read only the rows count: those of any layout do
    plain = {o: edit.node(plan.source(o)) for o in site.operands if o not in wanted}
    changes = {given[o]: new for o, new in (plain | wanted).items() if given[o] is not new}
    moves = site.module is not None and plan.moves(name)
    for old, new in changes.items():
        node.replace_input_with(old, new)
        edit.changed = True
    if moves and edit.may(name):
        node.target = plan.shared(
            (str(site.node.target), layout, *(str(t) for t in site.types)),
            lambda: _laid_out(edit, site, layout),
        )
        edit.changed = True


def _laid_out(edit: Rewriting, site: Site, layout: Layout) -> str:
    """The path of a module like that of a site, of rows in a layout."""
    import copy
    import re

    from irprune.ops.base import op_of_node

    op = op_of_node(site.node, site.module)
    assert op is not None
    made = copy.deepcopy(op.laid_out(site, layout))
    path = re.sub(r"_ir_mul(_\d+)?$", "", str(site.node.target))
    return edit.add(path if layout.value == "mul_ir" else f"{path}_{layout.value}", made)


def _in_layout(edit: Rewriting, plan: LayoutPlan, operand: fx.Node, layout: Layout) -> fx.Node:
    """The value of an operand in a layout: as it is, or through the one conversion that it has."""
    from irprune.layers.layout import ChangeLayout

    value = plan.source(operand)
    node = edit.node(value)
    if plan.labels[value.name] is layout:
        return node

    def convert() -> Any:
        path = edit.add(
            f"{value.name}_to_{layout.value}", ChangeLayout(plan.type_of(value.name).irreps, layout)
        )
        after: fx.Node = node
        while after.next.op == "placeholder":
            after = after.next
        with edit.gm.graph.inserting_after(after):
            return edit.gm.graph.call_module(path, (node,))

    made: fx.Node = plan.shared((value.name, layout), convert)
    return made
