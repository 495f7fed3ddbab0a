"""The rows of a run, in memory and in the log of its folder."""

from __future__ import annotations

from irprune.recover.parallel import ALONE, Processes
from irprune.recover.result import Row
from irprune.recover.runfolder import RunFolder


class Journal:
    """What steps and validations gave, in order."""

    def __init__(self, folder: RunFolder | None, processes: Processes = ALONE) -> None:
        """
        Args:
            folder: where rows are logged too; None for a process that writes nothing.
            processes: this one among those that have the same rows.
        """
        self.folder, self.processes = folder, processes
        self.steps: list[Row] = []
        self.validations: list[Row] = []

    @property
    def rate(self) -> float:
        """The learning rate of the last step; 0 before the first."""
        return self.steps[-1].lr if self.steps else 0.0

    def add_step(self, row: Row) -> None:
        """A row of a training step."""
        self.steps.append(row)
        self._log("step", row)

    def add_validation(self, row: Row) -> None:
        """A row of a validation."""
        self.validations.append(row)
        self._log("validation", row)

    def read(self, step: int) -> None:
        """Takes up what was logged before ``step``; what was logged after it comes again.

        The first process reads it for all: they decide by it whether a validation is due.
        """
        logged = [] if self.folder is None else self.folder.rows(step)
        for flat in self.processes.of_first(logged):
            kind = flat.pop("kind")
            (self.steps if kind == "step" else self.validations).append(Row.from_json(flat))

    def _log(self, kind: str, row: Row) -> None:
        if self.folder is not None:
            self.folder.log({"kind": kind, **row.to_json()})
