"""limit-correlation: contractions without their highest body orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.errors import LegalityError, UsageError
from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class LimitCorrelation(Pass):
    """Removes the terms of contractions that are products of more than ``order`` factors."""

    order: int = 2
    """The highest correlation order ν that stays."""

    name: ClassVar[str] = "limit-correlation"
    summary: ClassVar[str] = "contractions without their highest correlation orders"
    trait: ClassVar[str] = "approximate(terms of high correlation order are removed)"
    refuses: ClassVar[tuple[str, ...]] = ("masks", "lowered")
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)
    by_node: ClassVar[bool] = True

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with smaller contractions; the given one where none has a higher order.

        Raises:
            UsageError: an order below 1.
            LegalityError: a graph without contractions.
        """
        from irprune.ops.base import op_of_node
        from irprune.rewriting import Rewriting

        if self.order < 1:
            raise UsageError(f"limit-correlation: order must be 1 or more, got {self.order}")
        edit, found = Rewriting(graph, context), False
        for site in graph.sites.values():
            op = op_of_node(site.node, site.module) if site.module is not None else None
            small = None if op is None else op.limited(site, self.order)
            if small is not None:
                found = True
                if small is not site.module:
                    edit.exchange(str(site.node.target), small)
        if not found:
            raise LegalityError(
                "limit-correlation: this graph has no contractions, so no correlation orders to"
                " remove; leave the pass out"
            )
        return edit.done(origin=None)
