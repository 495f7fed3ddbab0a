"""States of a run that can be continued: written by the first process, read by all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from irprune.errors import UsageError
from irprune.recover.identity import check_same
from irprune.recover.parallel import Processes
from irprune.recover.runfolder import RunFolder, read
from irprune.recover.student import Student


@dataclass(frozen=True, eq=False)
class Best:
    """The averaged weights that were best on the structures held out."""

    loss: float
    step: int
    """After which they were so."""
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """Saves and restores a student and its best weights; keeps nothing without a folder."""

    folder: RunFolder | None
    processes: Processes
    identity: Mapping[str, Any]
    """What a saved state must agree with (``identity_of``)."""

    @property
    def writes_to(self) -> RunFolder | None:
        """The folder, in the one process that writes."""
        return self.folder if self.processes.first else None

    def start(self, student: Student, resume: bool) -> tuple[int, Best | None]:
        """The steps done and the best weights: those of the saved state, which ``student`` gets.

        Raises:
            UsageError: the folder holds another run, or one that ``resume`` does not ask for.
        """
        state = self._state(resume)
        if state is None or self.folder is None:
            return 0, None
        file = self.folder.state_file
        check_same(state["identity"], self.identity, file)
        shapes = {k: v.shape for k, v in state["parameters"].items()}
        if shapes != {k: v.shape for k, v in student.parameters.items()}:
            raise UsageError(f"cannot resume from {file}: it is of a student with other parameters")
        student.resume(state["parameters"], state["learner"])
        best = None
        if state["best"] is not None:
            loss, step, weights = state["best"]
            best = Best(loss, step, {k: v.to(student.parameters[k]) for k, v in weights.items()})
        return int(state["step"]), best

    def _state(self, resume: bool) -> dict[str, Any] | None:
        """What is saved, in every process; None for a run from the start."""
        state = None
        if self.writes_to is not None:
            state = self.writes_to.start(resume)
        self.processes.wait()
        if self.writes_to is None and self.folder is not None and resume:
            state = read(self.folder.state_file) if self.folder.state_file.exists() else None
        return state

    def save(self, step: int, student: Student, best: Best | None) -> None:
        """What is needed to continue after ``step`` steps."""
        if self.writes_to is not None:
            self.writes_to.save(
                {
                    "identity": dict(self.identity),
                    "step": step,
                    "parameters": {k: p.detach() for k, p in student.parameters.items()},
                    "learner": student.learner.state(),
                    "best": None if best is None else (best.loss, best.step, dict(best.weights)),
                }
            )

    def save_best(self, best: Best) -> None:
        """The best weights alone, for use elsewhere."""
        if self.writes_to is not None:
            self.writes_to.save_best(
                {"identity": dict(self.identity), "weights": dict(best.weights)}
            )

    def close(self) -> None:
        """Nothing is saved or logged after this."""
        if self.writes_to is not None:
            self.writes_to.close()
