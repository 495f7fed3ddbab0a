"""drop-layers: fewer message-passing layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.errors import UsageError
from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class DropLayers(Pass):
    """Hands what a layer takes in on as what it gives, and removes what nothing reads any more."""

    layers: tuple[int, ...] = ()
    """Numbers of layers, as ``irprune show`` calls them."""
    count: int | None = None
    """How many to remove: those that change the forces least."""
    structures: int = 4
    """Structures to measure the change on; of the data, evenly spaced."""

    name: ClassVar[str] = "drop-layers"
    summary: ClassVar[str] = "remove message-passing layers: layers= or count="
    trait: ClassVar[str] = "approximate(layers are removed)"
    refuses: ClassVar[tuple[str, ...]] = ("masks", "lowered")
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph without the layers; ``context.results["layers"]`` has the measured changes.

        Raises:
            UsageError: both or none of layers and count, or a layer that is not there.
            LegalityError: a layer that gives another type than it takes in; names both.
        """
        from irprune import depth
        from irprune.api import generated_frames
        from irprune.data.choice import evenly

        if bool(self.layers) == (self.count is not None):
            raise UsageError(
                "drop-layers needs one of layers and count: write drop-layers{layers=[2,3]} or"
                " drop-layers{count=1}"
            )
        if self.count is None:
            return depth.drop(graph, self.layers)
        if self.count < 1 or self.structures < 1:
            what = "count" if self.count < 1 else "structures"
            raise UsageError(f"drop-layers: {what} must be 1 or more, got {getattr(self, what)}")
        frames: Sequence[Atoms] = (
            evenly(context.frames, self.structures)
            if context.frames
            else generated_frames(graph, self.structures, context.seed)
        )
        dropped: list[int] = []
        measured = context.results.setdefault("layers", [])
        for done in range(self.count):
            context.progress("layers", done, self.count)
            changes = depth.force_changes(graph, dropped, frames)
            if not changes:
                raise UsageError(
                    f"drop-layers: count={self.count}, but only {len(dropped)} layers give the type"
                    " that they take in; ask for fewer"
                )
            dropped.append(min(changes, key=lambda n: (changes[n], n)))
            measured.append({f"layer {n}": change for n, change in changes.items()})
        return depth.drop(graph, dropped)
