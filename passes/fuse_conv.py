"""fuse-conv: gather, tensor product and scatter as one op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from torch import fx

    from irprune.graph import EquivariantGraph
    from irprune.ops.base import Site


@dataclass(frozen=True)
class FuseConv(Pass):
    """Makes one convolution of gather → tensor product → scatter, so that messages are not stored.

    What cannot be fused stays as it is and is named, with the reason, in the results.
    """

    name: ClassVar[str] = "fuse-conv"
    summary: ClassVar[str] = "gather, tensor product and scatter as one op"
    trait: ClassVar[str] = "exact"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    provides: ClassVar[tuple[str, ...]] = ("lowered",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)
    by_node: ClassVar[bool] = True

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with fused convolutions; ``context.results["fuse-conv"]`` says what stayed."""
        from irprune.errors import LegalityError
        from irprune.functional import edge_lists
        from irprune.layers.convolution import Convolution
        from irprune.ops.couplings import path_spec
        from irprune.rewriting import Rewriting, path_like

        edit, stayed = Rewriting(graph, context), {}
        lists: dict[tuple[fx.Node, fx.Node], fx.Node] = {}
        for name, site in graph.sites.items():
            if not _is_product(site):
                continue
            try:
                features, scatter, sender, receiver = _around(graph, site)
                spec = path_spec(site.module)
            except LegalityError as error:
                stayed[name] = str(error)
                continue
            x, at = edit.node(features), edit.node(scatter)
            ends = (edit.node(sender), edit.node(receiver))
            order = {n: i for i, n in enumerate(edit.gm.graph.nodes)}
            if ends not in lists or order[lists[ends]] > order[at]:
                lists[ends] = edit.call(at, edge_lists, *ends, x)
            rest = tuple(edit.node(o) for o in site.operands[1:])
            fused = edit.module(
                at, f"{path_like(site.node)}_fused", Convolution(spec), (x, *rest, lists[ends])
            )
            edit.replace(at, fused)
        context.results[self.name] = stayed
        return edit.done()


def _is_product(site: Site) -> bool:
    from e3nn import o3

    from irprune.irreps import IrrepsType, Space

    return (
        isinstance(site.module, o3.TensorProduct)
        and len(site.operands) == 3
        and isinstance(site.out, IrrepsType)
        and site.out.space is Space.EDGE
    )


def _around(graph: EquivariantGraph, site: Site) -> tuple[fx.Node, fx.Node, fx.Node, fx.Node]:
    """(features, scatter, senders, receivers) of a tensor product.

    Raises:
        LegalityError: one of them is not there; names what is.
    """
    import operator

    import torch
    from torch import fx

    from irprune.errors import LegalityError
    from irprune.functional import message_gather, scatter_sum
    from irprune.irreps import IrrepsType, Space
    from irprune.ops.base import Other

    def is_rows(node: Any, space: Space) -> bool:
        t = graph.sites[node.name].out if isinstance(node, fx.Node) else None
        return isinstance(t, IrrepsType) and t.space is space

    def is_ends(node: Any) -> bool:
        t = graph.sites[node.name].out if isinstance(node, fx.Node) else None
        return isinstance(t, Other) and t.kind == "index" and t.rows == "edge"

    gather: Any = site.operands[0]
    if gather.target is operator.getitem:
        sender = gather.args[1]
    elif gather.target in (torch.index_select, "index_select"):
        sender = gather.args[2] if len(gather.args) > 2 else gather.kwargs.get("index")
        if not gather.args:
            raise LegalityError(f"{gather.name} is called with keywords only")
    else:
        raise LegalityError(f"its features come from {gather.name}, which gathers no rows")
    if not is_rows(gather.args[0], Space.NODE) or not is_ends(sender):
        raise LegalityError(f"its features come from {gather.name}, which gathers no atoms")
    users = list(site.node.users)
    if len(users) != 1:
        raise LegalityError(f"its messages are read by {len(users)} nodes")
    scatter: Any = users[0]
    arguments: dict[str, Any] = dict(scatter.kwargs)
    if scatter.target is message_gather:
        if len(scatter.args) != 3:
            raise LegalityError(f"{scatter.name} is called with keywords")
        like, receiver, messages = scatter.args
        rows = is_rows(like, Space.NODE)
    elif scatter.target is scatter_sum:
        names = ("src", "index", "dim", "out", "dim_size", "reduce")
        arguments |= dict(zip(names, scatter.args, strict=False))
        messages, receiver = arguments["src"], arguments["index"]
        count = arguments.get("dim_size")
        size = graph.sites[count.name].out if isinstance(count, fx.Node) else None
        rows = isinstance(size, Other) and size.kind == "const" and size.rows == "node"
    else:
        raise LegalityError(f"its messages go to {scatter.name}, which does not sum them")
    if messages is not site.node or not is_ends(receiver) or not rows:
        raise LegalityError(f"{scatter.name} does not sum its messages by atom")
    return gather.args[0], scatter, sender, receiver
