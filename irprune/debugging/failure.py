"""Failure: what went wrong after a pass; two candidates fail in the same way or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from irprune.passbase import Pass
from irprune.passmanager import PassContext, recorded
from irprune.verification.checks import Check

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.graph import EquivariantGraph

RUNGS = ("rotation", "permutation", "forces")
"""Physical rungs that are checked after every pass, as ``--verify-each`` does."""
QUICK = frozenset({"types", "masked-sliced", "claim", "compiled"})
"""Checks that need no physical rung."""


@dataclass(frozen=True)
class Failure:
    """Checks that failed after a pass, or the error that the pass raised."""

    checks: tuple[Check, ...] = ()
    error: str = ""
    kind: str = ""
    """The class of the error."""

    def same(self, other: Failure | None) -> bool:
        """Whether the other fails in the same way: one check in common, or the same class of error."""
        if other is None or self.kind != other.kind:
            return False
        names = {c.name for c in other.checks}
        return bool(self.kind) or any(c.name in names for c in self.checks)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.checks)

    def __str__(self) -> str:
        return f"{self.kind}: {self.error}" if self.kind else "; ".join(map(str, self.checks))


@dataclass(frozen=True)
class Trial:
    """Runs passes as a pipeline does, and checks what they make."""

    frames: Sequence[Atoms] | None = None
    seed: int = 0
    target: str = "auto"
    dtype: str | None = None
    teacher: Any = None
    ignore: frozenset[str] = frozenset()
    """Names of checks that blame no pass, because the model fails them before any."""
    tick: Callable[[str], None] = field(default=lambda label: None)
    """Called before every run, for progress."""

    def context(self, only: frozenset[str] | None = None) -> PassContext:
        return PassContext(
            frames=self.frames, seed=self.seed, target=self.target, dtype=self.dtype,
            teacher=self.teacher, only=only,
        )  # fmt: skip

    def step(
        self,
        p: Pass,
        graph: EquivariantGraph,
        context: PassContext,
        expected: Failure | None = None,
    ) -> tuple[EquivariantGraph | None, Failure | None]:
        """The graph after a pass, and how it fails; no graph where the pass raised an error.

        With ``expected``, the physical rungs are left out where it names none of them.
        """
        self.tick(p.name)
        try:
            made = recorded(p.run(graph, context), graph, p)
        except Exception as error:  # what is looked for may be any error of a pass
            return None, _raised(error)
        return made, self.check(made, expected)

    def check(self, graph: EquivariantGraph, expected: Failure | None = None) -> Failure | None:
        """The checks that fail on a graph; None where none does."""
        from irprune.api import generated_frames
        from irprune.data.choice import evenly
        from irprune.verification.ladder import verify_graph

        # an error has no names, so the quick checks are all that is made then
        steps = () if expected is not None and QUICK.issuperset(expected.names) else RUNGS
        frames: Sequence[Atoms] | None = None if self.frames is None else evenly(self.frames, 2)
        try:
            if frames is None and graph.atomistic is not None:
                frames = generated_frames(graph, 2, self.seed)
            checks = verify_graph(graph, frames, seed=self.seed, steps=steps)
        except Exception as error:
            return _raised(error)
        failed = tuple(c for c in checks if not c.ok and c.name not in self.ignore)
        return Failure(failed) if failed else None

    def prefix(
        self, passes: Sequence[Pass], graph: EquivariantGraph, expected: Failure
    ) -> Failure | None:
        """How several passes fail: the error of one of them, or the checks after the last."""
        frames = None if graph.atomistic is None else self.frames
        trial = replace(self, teacher=graph, frames=frames)
        context = trial.context()
        made: EquivariantGraph = graph
        for p in passes:
            self.tick(p.name)
            try:
                made = recorded(p.run(made, context), made, p)
            except Exception as error:
                return _raised(error)
        return trial.check(made, expected)


class Runs:
    """A trial that counts how often it runs a pass."""

    def __init__(self, trial: Trial | None) -> None:
        self.count = 0
        given = trial or Trial()
        self._tick = given.tick
        self.trial = replace(given, tick=self._counted)

    def _counted(self, label: str) -> None:
        self.count += 1
        self._tick(label)


def _raised(error: Exception) -> Failure:
    return Failure(error=" ".join(str(error).split()), kind=type(error).__name__)
