"""compile: energies and forces of the whole graph as one function of torch.compile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Compile(Pass):
    """Notes in the graph that potentials and calculators compile it, and compiles it once.

    No node changes. The first run shows whether it can be compiled, and fills inductor's cache on
    disk.
    """

    backend: str = "inductor"
    """inductor, aot_eager or eager; the last two are for tests and no faster."""

    name: ClassVar[str] = "compile"
    summary: ClassVar[str] = "energies and forces as one function of torch.compile"
    trait: ClassVar[str] = "exact"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with the note; ``context.results["compile"]`` counts what was compiled.

        Raises:
            UsageError: an unknown backend, or a graph that is no interatomic potential.
            LegalityError: an operation that cannot be compiled; names the node.
            CompileError: torch.compile failed.
        """
        from irprune.compiling.compiled import CompileOptions
        from irprune.compiling.rung import first_run

        made = graph.replace(compiled=CompileOptions(self.backend))
        context.results[self.name] = first_run(made, context.seed)
        return made
