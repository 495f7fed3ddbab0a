"""tabulate-radial: radial networks as piecewise polynomials of the distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from torch import nn

    from irprune.graph import EquivariantGraph
    from irprune.radial import Radial


@dataclass(frozen=True)
class TabulateRadial(Pass):
    """Splines in the place of every network of the distance, with a proven bound on the error.

    ``tol`` bounds the error of values, relative to the median over distances of the largest output
    of the network, and that of slopes likewise. Where a network depends on the elements at the ends
    of an edge, every pair of elements has its own table.
    """

    tol: float = 1e-6
    degree: int = 5
    """3 (cubic, one continuous derivative) or 5 (two)."""
    shortest: float = 0.5
    """Å; the optimized model raises where two atoms come nearer."""
    memory: float = 512.0
    """MB; more for the tables of one network is declined."""

    name: ClassVar[str] = "tabulate-radial"
    summary: ClassVar[str] = "radial networks as splines of the distance, with a proven bound"
    trait: ClassVar[str] = "approximate(radial networks are tabulated to a tolerance)"
    requires: ClassVar[tuple[str, ...]] = ("lowered",)
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)

    def __post_init__(self) -> None:
        from irprune.errors import PipelineError

        for name, value in (("tol", self.tol), ("shortest", self.shortest)):
            if not value > 0:
                raise PipelineError(f"tabulate-radial: {name} is {value}, expected more than 0")
        if self.degree not in (3, 5):
            raise PipelineError(f"tabulate-radial: degree is {self.degree}, expected 3 or 5")

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with tables; ``context.results["tabulate-radial"]`` has the bounds, by table,
        and under ``stayed`` the networks that could not be tabulated, with the reason.

        Raises:
            UsageError: the graph does not run on atoms, or the tolerance is out of reach.
        """
        from irprune.errors import LegalityError, UsageError
        from irprune.radial import frontier, radial_values
        from irprune.rewriting import Rewriting, path_like

        if graph.atomistic is None:
            raise UsageError(
                "tabulate-radial needs an interatomic potential, whose cutoff is known"
            )
        if not self.shortest < graph.atomistic.cutoff:
            raise UsageError(
                f"tabulate-radial: shortest is {self.shortest} Å, expected less than the cutoff,"
                f" {graph.atomistic.cutoff} Å"
            )
        values, stayed = radial_values(graph)
        edit, bounds = Rewriting(graph), {}
        names = frontier(graph, values)
        for done, name in enumerate(names):
            context.progress(self.name, done, len(names))
            try:
                made, bound = self._tabulated(graph, name, values[name])
            except LegalityError as error:
                stayed[name] = str(error)
                continue
            node, value = edit.node(name), values[name]
            ends = () if value.edges is None else (edit.node("species"), edit.node(value.edges))
            path = f"{path_like(node)}_table"
            arguments = (edit.node(value.length), *ends)
            edit.replace(node, edit.module(node, path, made, arguments))
            bounds[name] = bound
        context.progress(self.name, len(names), len(names))
        context.results[self.name] = {"bounds": bounds, "stayed": stayed}
        return edit.done()

    def _tabulated(
        self, graph: EquivariantGraph, name: str, value: Radial
    ) -> tuple[nn.Module, dict[str, Any]]:
        """The table of one value, and what is proven of it."""
        import itertools

        import torch

        from irprune.layers.table import RadialTable
        from irprune.radial import Function
        from irprune.splines.build import splines
        from irprune.tablespec import TableSpec

        assert graph.atomistic is not None
        function = Function(graph, graph.sites[name].node, value)
        elements = len(graph.atomistic.atomic_numbers) if value.edges is not None else None
        ends = list(itertools.product(range(elements or 1), repeat=2))
        dtype = next(p.dtype for p in graph.gm.parameters() if p.is_floating_point())
        found = splines(
            [function.at(*pair) for pair in ends],
            self.shortest,
            graph.atomistic.cutoff,
            self.degree,
            self.tol,
            self.memory * 1e6 / dtype.itemsize,
        )
        distinct, kinds = torch.unique(found.table, dim=0, return_inverse=True)
        spec = TableSpec(distinct.shape[-1], self.degree, found.pieces, distinct.shape[0])
        made = RadialTable(spec, elements)
        made.coefficients = distinct.to(dtype)
        if elements is not None:
            made.kinds = kinds.reshape(elements, elements)
        return made, {
            "value": found.value_bound,
            "slope": found.slope_bound,
            "tables": spec.tables,
            "intervals": spec.intervals,
        }
