"""verify: masked equals sliced, and the physical rungs of the ladder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.errors import CheckFailed
from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Verify(Pass):
    """Runs the verification ladder; a failed check is an error.

    masked ≡ sliced checks the transformation, in float64 and with the weights before any training;
    the physical rungs run on the graph as it stands.
    """

    structures: int = 3
    """Structures of the data to use, evenly spaced; without data, as many are generated."""

    name: ClassVar[str] = "verify"
    summary: ClassVar[str] = "types, masked = sliced, symmetries, forces, stress, NVE drift"
    trait: ClassVar[str] = "exact"

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph unchanged; the checks are added to ``context.results["verify"]``.

        Raises:
            CheckFailed: names the checks, their values and tolerances.
        """
        from irprune.data.choice import evenly
        from irprune.verification.ladder import verify_graph

        frames = evenly(context.frames, self.structures) if context.frames else None
        checks = verify_graph(graph, frames, seed=context.seed, structures=self.structures)
        context.results["verify"] = [*context.results.get("verify", ()), *checks]
        failed = [c for c in checks if not c.ok]
        if failed:
            raise CheckFailed("; ".join(str(c) for c in failed))
        return graph
