"""select: which blocks stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.errors import UsageError
from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from irprune.families.base import Legal
    from irprune.graph import EquivariantGraph
    from irprune.selection import Pools, Step


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
    latency: str | None = None
    """Budget on measured time, such as 50%."""
    axes: tuple[str, ...] = ("channel",)
    """Kinds of axes to choose from: channel, radial, path, edge, order, scalar."""
    scope: str = "global"
    """global ranks all blocks together; layer, l and axis keep the same share of each."""
    minimum: int | str = 1
    """Groups that every axis keeps; or by order, such as 0:16+1:8."""
    align: int = 1
    """Kept groups of every axis are a multiple of it."""
    protect: tuple[str, ...] = ()
    """Patterns of axes, ties or layers of which nothing goes."""
    edge_lmax: int | None = None
    """Also drop the edge attributes above this order."""
    of_original: bool = False
    """Shares are of the model before the first pass, not of what the passes before left."""
    optimized: bool = False
    """latency: time what optimize makes of the models."""
    atoms: int = 64
    """latency: atoms of the structure, at least."""
    rounds: int = 9
    """latency: calls of each model at least; twice as many to confirm."""

    name: ClassVar[str] = "select"
    summary: ClassVar[str] = "choose the blocks to keep: keep=, to=, params=, flops= or latency="
    trait: ClassVar[str] = "approximate(blocks are removed)"
    requires: ClassVar[tuple[str, ...]] = ("scores",)
    refuses: ClassVar[tuple[str, ...]] = ("masks", "lowered")
    provides: ClassVar[tuple[str, ...]] = ("masks",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with ``keep`` set.

        Raises:
            UsageError: none or several goals, or a value out of range.
            LegalityError: the goal is no structure of the target.
        """
        from irprune.targets import legal_for

        legal = legal_for(graph, context.target)
        cut = self._cut(graph, legal)
        mask = self._chosen(graph, legal, context, cut)
        return graph.replace(keep=graph.blocks.without(~mask | cut) if cut.any() else mask)

    def _cut(self, graph: EquivariantGraph, legal: Legal | None) -> NDArray[np.bool_]:
        """Classes that ``edge_lmax`` takes away, whatever else is chosen."""
        import numpy as np

        from irprune.selection import cut_orders

        if self.edge_lmax is None:
            return np.zeros(graph.blocks.n_classes, bool)
        if self.edge_lmax < 0:
            raise UsageError(f"select: edge-lmax must be 0 or more, got {self.edge_lmax}")
        return cut_orders(graph, legal, self.edge_lmax)

    def _chosen(
        self,
        graph: EquivariantGraph,
        legal: Legal | None,
        context: PassContext,
        cut: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        import numpy as np

        from irprune import selection

        goals = {n: getattr(self, n) for n in ("keep", "to", "params", "flops", "latency")}
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
        bounds = selection.Bounds(*selection.read_minimum(self.minimum), self.align, self.protect)
        if self.to is not None:
            from irprune.targets import counts_for

            self._refuse_bounds()
            counts = counts_for(graph, self.to)
            selection.check_ties(legal, counts)
            return selection.choose_counts(graph, scores, counts)
        if self.scope not in selection.SCOPES:
            known = ", ".join(selection.SCOPES)
            raise UsageError(f"select: scope is one of {known}, got {self.scope!r}")
        if bounds.by_order:
            bounds.check_orders(graph.axes())
        pools = selection.Pools.of(graph, scores, legal, self.axes, self.protect)
        order = pools.removal_order(bounds, self.scope)
        if cut.any():  # budgets are met by what is left without these orders
            order = [selection.orders_off(cut), *order]
        steps = self._steps(graph, pools, order, context)
        mask = selection.kept_after(graph, steps)
        selection.check_kept(graph, mask, pools, bounds)
        return mask

    def _steps(
        self, graph: EquivariantGraph, pools: Pools, order: Sequence[Step], context: PassContext
    ) -> list[Step]:
        """The steps that reach the goal."""
        from irprune import selection

        if self.keep is not None:
            if not 0 < self.keep <= 1:
                raise UsageError(f"select: keep must be a fraction in (0, 1], got {self.keep:g}")
            whole = self._pools(self._original(graph, context), context)
            share = self.keep * whole.weight / pools.weight
            return selection.choose_fraction(order, pools, min(1.0, share))
        if self.latency is not None:
            return self._timed(graph, order, context)
        before = self._original(graph, context).stats()
        if self.params is not None:
            goal = percent(self.params, "params") * before.params
            return selection.choose_budget(graph, order, lambda s: s.params, goal, "parameters")
        assert self.flops is not None
        goal = percent(self.flops, "flops") * before.flops_per_atom
        return selection.choose_budget(
            graph, order, lambda s: s.flops_per_atom, goal, "FLOPs per atom"
        )

    def _pools(self, graph: EquivariantGraph, context: PassContext) -> Pools:
        """What may go from a graph, whatever its scores."""
        import numpy as np

        from irprune.scores import Scores
        from irprune.selection import Pools
        from irprune.targets import legal_for

        blank = Scores(np.zeros(graph.blocks.n_classes), "none")
        return Pools.of(graph, blank, legal_for(graph, context.target), self.axes, self.protect)

    def _original(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph that shares are shares of."""
        if self.of_original and context.teacher is not None:
            first: EquivariantGraph = context.teacher
            return first
        return graph

    def _timed(
        self, graph: EquivariantGraph, order: Sequence[Step], context: PassContext
    ) -> list[Step]:
        """The steps after which the model takes the time asked for; says so in the results."""
        from irprune.selection.latency import LatencySearch, flops_of, report
        from irprune.selection.stopwatch import PairedStopwatch, structure_for

        for option in ("rounds", "atoms"):
            if getattr(self, option) < 1:
                raise UsageError(f"select: {option} must be 1 or more, got {getattr(self, option)}")
        goal = percent(str(self.latency), "latency")
        stopwatch, size, how = context.stopwatch, flops_of, {}
        if stopwatch is None:
            atoms = structure_for(graph, context.frames, self.atoms)
            own = PairedStopwatch(atoms, self.optimized)
            stopwatch, size, how = own, own.predicted, own.to_json()
        search = LatencySearch(
            graph,
            order,
            goal,
            stopwatch,
            self.rounds,
            self._original(graph, context),
            context.progress,
            size=size,
        )
        chosen = search.find()
        measured = context.results.setdefault("latency", [])
        measured.append({**how, **report(search, chosen)})
        return list(chosen.found.steps)

    def _refuse_bounds(self) -> None:
        """
        Raises:
            UsageError: an option that a structure leaves nothing to decide for.
        """
        given = {
            "minimum": self.minimum != 1,
            "align": self.align != 1,
            "protect": self.protect,
            "axes": self.axes != ("channel",),
            "scope": self.scope != "global",
        }
        if any(given.values()):
            names = " and ".join(n for n, on in given.items() if on)
            raise UsageError(
                f"select: to={self.to} says what every layer keeps, so {names} cannot be given as"
                " well; leave out one of them"
            )


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
