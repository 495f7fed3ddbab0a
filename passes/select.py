"""select: which blocks stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.errors import UsageError
from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from irprune.families.base import Legal
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Select(Pass):
    """Chooses the blocks to keep, as a structure that is legal for the target."""

    keep: float | None = None
    """Fraction of the blocks to keep, in (0, 1]."""
    to: str | None = None
    """An explicit structure, such as 64x0e+32x1o."""
    params: str | None = None
    """Budget on parameters, such as 50%."""
    flops: str | None = None
    """Budget on FLOPs per atom, such as 50%."""
    axes: tuple[str, ...] = ("channel",)
    """Kinds of axes to choose from: channel, radial, path, edge, order, scalar."""
    scope: str = "global"
    """global ranks all blocks together; axis keeps the same share of every axis."""
    minimum: int = 1
    """Groups that every axis keeps."""
    edge_lmax: int | None = None
    """Also drop the edge attributes above this order."""

    name: ClassVar[str] = "select"
    summary: ClassVar[str] = "choose the blocks to keep: keep=, to=, params= or flops="
    trait: ClassVar[str] = "approximate(blocks are removed)"
    requires: ClassVar[tuple[str, ...]] = ("scores",)
    refuses: ClassVar[tuple[str, ...]] = ("lowered",)
    provides: ClassVar[tuple[str, ...]] = ("masks",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with ``keep`` set.

        Raises:
            UsageError: none or several goals, or a value out of range.
            LegalityError: the goal is no structure of the target.
        """
        from irprune.targets import legal_for

        legal = legal_for(graph, context.target)
        mask = self._chosen(graph, legal)
        if self.edge_lmax is not None:
            from irprune.selection import cut_orders

            if self.edge_lmax < 0:
                raise UsageError(f"select: edge-lmax must be 0 or more, got {self.edge_lmax}")
            mask = graph.blocks.without(~mask | cut_orders(graph, legal, self.edge_lmax))
        return graph.replace(keep=mask)

    def _chosen(self, graph: EquivariantGraph, legal: Legal | None) -> NDArray[np.bool_]:
        import numpy as np

        from irprune import selection

        goals = {n: getattr(self, n) for n in ("keep", "to", "params", "flops")}
        given = {n: v for n, v in goals.items() if v is not None}
        if not given and self.edge_lmax is not None:
            return np.ones(graph.blocks.n_classes, bool)
        if len(given) != 1:
            raise UsageError(
                f"select needs exactly one of {', '.join(goals)}; got {', '.join(given) or 'none'}"
            )
        scores = graph.scores
        if scores is None:
            raise UsageError("select needs scores; run score first")
        if self.to is not None:
            from irprune.targets import counts_for

            counts = counts_for(graph, self.to)
            selection.check_ties(legal, counts)
            return selection.choose_counts(graph, scores, counts)
        if self.scope not in ("global", "axis"):
            raise UsageError(f"select: scope is global or axis, got {self.scope!r}")
        pools = selection.Pools.of(graph, scores, legal, self.axes)
        order = pools.removal_order(self.minimum, self.scope)
        if self.keep is not None:
            if not 0 < self.keep <= 1:
                raise UsageError(f"select: keep must be a fraction in (0, 1], got {self.keep:g}")
            steps = selection.choose_fraction(order, pools, self.keep)
        else:
            what = "params" if self.params is not None else "flops"
            share = percent(str(given[what]), what)
            before = graph.stats()
            total = before.params if what == "params" else before.flops_per_atom
            steps = selection.choose_budget(
                graph,
                order,
                (lambda s: s.params) if what == "params" else (lambda s: s.flops_per_atom),
                share * total,
                "parameters" if what == "params" else "FLOPs per atom",
            )
        return selection.kept_after(graph, steps)


def percent(text: str, option: str) -> float:
    """``50%`` → 0.5.

    Raises:
        UsageError: not a percentage in (0, 100].
    """
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = float("nan")
    if not text.endswith("%") or not 0 < value <= 1:
        raise UsageError(f"select: {option} must be a percentage in (0%, 100%], got {text!r}")
    return value
