"""export: write the model in the format that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.errors import UsageError
from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Export(Pass):
    """Writes the model and reloads it in a fresh process."""

    path: str | None = None
    """Where to write; by default the output of the command."""
    verify: bool = True
    """Reload the file in a fresh process, and compare."""

    name: ClassVar[str] = "export"
    summary: ClassVar[str] = "write the model where it came from, and reload it to check"
    trait: ClassVar[str] = "exact"

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph unchanged; the result is in ``context.results["export"]``."""
        from irprune.export import export

        if self.path and context.output and str(self.path) != str(context.output):
            raise UsageError(
                f"export: two outputs, {self.path} in the pipeline and {context.output} outside it;"
                " give one"
            )
        path = self.path or context.output
        if path is None:
            raise UsageError(
                "export needs a path: export{path=small.pth}, or -o on the command line"
            )
        context.results["export"] = export(graph, path, context.target, verify=self.verify)
        return graph
