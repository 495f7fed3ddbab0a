"""tabulate-radial: radial networks as piecewise polynomials of the distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from torch import nn

    from irprune.graph import EquivariantGraph
    from irprune.layers.table import RadialTable
    from irprune.radial import Radial
    from irprune.splines.build import Splines


@dataclass(frozen=True)
class TabulateRadial(Pass):
    """Splines in the place of every network of the distance, with a proven bound on the error.

    ``tol`` bounds the error of values, relative to the median over distances of the largest output
    of the network, and that of slopes likewise. Where a network depends on the elements at the ends
    of an edge, every pair of elements has its own table.
    """

    tol: float = 1e-6
    """Largest relative error of values, and of slopes."""
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
    by_node: ClassVar[bool] = True

    def __post_init__(self) -> None:
        from irprune.errors import PipelineError

        for name, value in (("tol", self.tol), ("shortest", self.shortest)):
            if not value > 0:
                raise PipelineError(f"tabulate-radial: {name} is {value}, expected more than 0")
        if self.degree not in (3, 5):
            raise PipelineError(f"tabulate-radial: degree is {self.degree}, expected 3 or 5")

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with tables.

        ``context.results["bounds"]`` says what is proven of each, and
        ``context.results["tabulate-radial"]`` which networks stayed, with the reason.

        Raises:
            UsageError: the graph does not run on atoms, or the tolerance is out of reach.
            ExactnessError: a spline is further off than was proven.
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
        edit, bounds = Rewriting(graph, context), {}
        names = frontier(graph, values)
        for done, name in enumerate(names):
            context.progress(self.name, done, len(names))
            try:
                made, bound = self._tabulated(graph, name, values[name], context.seed)
            except LegalityError as error:
                stayed[name] = str(error)
                continue
            node, value = edit.node(name), values[name]
            assert value.length is not None
            ends = () if value.edges is None else (edit.node("species"), edit.node(value.edges))
            path = f"{path_like(node)}_table"
            edit.replace(node, edit.module(node, path, made, (edit.node(value.length), *ends)))
            bounds[name] = bound
        context.progress(self.name, len(names), len(names))
        context.results[self.name] = stayed
        context.results["bounds"] = bounds
        return edit.done()

    def _tabulated(
        self, graph: EquivariantGraph, name: str, value: Radial, seed: int
    ) -> tuple[nn.Module, dict[str, Any]]:
        """The table of one value, and what is proven of it."""
        import itertools

        import torch

        from irprune.errors import LegalityError
        from irprune.layers.table import RadialTable
        from irprune.radial import Function
        from irprune.specs.table import TableSpec
        from irprune.splines.build import splines

        assert graph.atomistic is not None
        function = Function(graph, graph.sites[name].node, value)
        elements = len(graph.atomistic.atomic_numbers) if value.edges is not None else None
        pairs = list(itertools.product(range(elements or 1), repeat=2))
        functions = [function.at(*pair) for pair in pairs]
        dtype = next(p.dtype for p in graph.gm.parameters() if p.is_floating_point())
        limits = (self.shortest, graph.atomistic.cutoff, self.degree, self.tol)
        one = splines(functions[:1], *limits)
        size = one.table.numel() * dtype.itemsize * (len(pairs) + len(pairs) ** 0.5) / 2e6
        if size > self.memory:
            raise LegalityError(
                f"its tables for {len(pairs)} pairs of elements are about {size:.0f} MB, more than"
                f" memory={self.memory:g}; run specialize-elements first, or allow more"
            )
        found = one if len(pairs) == 1 else splines(functions, *limits)
        distinct, kinds = torch.unique(found.table, dim=0, return_inverse=True)
        spec = TableSpec(distinct.shape[-1], self.degree, found.pieces, distinct.shape[0])
        if distinct.numel() * dtype.itemsize > self.memory * 1e6:
            raise LegalityError(
                f"its {spec.tables} tables are {distinct.numel() * dtype.itemsize / 1e6:.0f} MB, more"
                f" than memory={self.memory:g}; run specialize-elements first, or allow more"
            )
        made = RadialTable(spec, elements)
        made.coefficients = distinct
        if elements is not None:
            made.kinds = kinds.reshape(elements, elements)
        check(graph, name, value, made, found, seed)
        made.coefficients = distinct.to(dtype)
        return made, {
            "value": found.value_bound,
            "slope": found.slope_bound,
            "tables": spec.tables,
            "polynomials": spec.intervals,
        }


ATOMS, EDGES, ROUNDING = 24, 512, 1e-11
"""Of the random graph on which splines are compared with the network; what rounding may add, relative
to the largest coefficient."""


def check(
    graph: EquivariantGraph, name: str, value: Radial, made: RadialTable, found: Splines, seed: int
) -> None:
    """Runs the network as it stands in the graph, and the table, on random edges of random elements.

    Raises:
        ExactnessError: a difference that is larger than was proven; nothing like it may be used.
    """
    import torch

    from irprune.errors import ExactnessError
    from irprune.radial import Ancestors

    assert graph.atomistic is not None and value.length is not None
    g = torch.Generator().manual_seed(seed)
    vectors = torch.randn(EDGES, 3, generator=g, dtype=torch.float64)
    length = torch.rand(EDGES, 1, generator=g, dtype=torch.float64)
    length = made.spec.start + (made.spec.stop - made.spec.start) * length
    vectors = (vectors / vectors.norm(dim=1, keepdim=True) * length).requires_grad_(True)
    species = torch.randint(len(graph.atomistic.atomic_numbers), (ATOMS,), generator=g)
    given = {
        "edge_vectors": vectors,
        "species": species,
        "edge_index": torch.randint(ATOMS, (2, EDGES), generator=g),
        "head": torch.randint(len(graph.atomistic.heads), (ATOMS,), generator=g),
    }
    run = Ancestors(graph, given)
    theirs = run.value(graph.sites[name].node)
    ends = () if value.edges is None else (species, run.value(value.edges))
    ours = made(run.value(value.length), *ends)
    # the slope of one column for each row
    columns = torch.randint(ours.shape[1], (ours.shape[0], 1), generator=g)
    slopes = []
    for x in (ours, theirs):
        (gradient,) = torch.autograd.grad(x.gather(1, columns).sum(), vectors, retain_graph=True)
        slopes.append((gradient * vectors).sum(1) / length[:, 0])
    size = float(made.coefficients.abs().max())
    density = max(n / (b - a) for a, b, n in made.spec.pieces)
    for what, mine, other, scale, bound, rounding in (
        ("value", ours, theirs, [s.value for s in found.scales], found.value_bound, size),
        ("slope", *slopes, [s.slope for s in found.scales], found.slope_bound, size * density),
    ):
        worst = float((mine - other).detach().abs().max())
        if not worst <= bound * max(scale) + ROUNDING * rounding:
            raise ExactnessError(
                f"tabulate-radial: the {what} of {name} is off by {worst / max(scale):.2e}, and"
                f" {bound:.2e} was proven; please report this"
            )
