"""The loop of a run: when to step, to validate, to save and to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from irprune.recover import schedule
from irprune.recover.checkpoints import Best, Checkpoints
from irprune.recover.clock import Clock
from irprune.recover.course import Course, Progress
from irprune.recover.journal import Journal
from irprune.recover.parallel import Processes
from irprune.recover.settings import Settings
from irprune.recover.student import Student
from irprune.recover.targets import Examples


@dataclass(frozen=True)
class Ended:
    """How a run came to its end."""

    steps: int
    """Done, those before a resumption included."""
    stopped: Literal["steps", "deadline"]
    best: int | None
    """The step after which the weights were best; None without structures held out."""
    seconds: float


@dataclass(eq=False)
class Loop:
    """One run. What it changes: the student, the journal, and the best weights so far."""

    student: Student
    course: Course
    settings: Settings
    seed: int
    processes: Processes
    checkpoints: Checkpoints
    journal: Journal
    progress: Progress
    best: Best | None = field(default=None, init=False)

    def go(self, resume: bool) -> Ended:
        """Trains, from the saved state if ``resume``.

        Raises:
            UsageError: a state of another run.
            CheckFailed: the loss is no longer finite.
        """
        clock = Clock(self.settings.deadline, self.processes, self.student.device)
        first, self.best = self.checkpoints.start(self.student, resume)
        self.journal.read(first)
        parts = self.course.batches(first, self.seed, self.processes, self.settings.accumulate)
        for step in range(first, self.course.steps):
            passed = clock.passed()
            if passed >= 1:
                self._break_off(step)
                return self._end(step, "deadline", clock)
            self._step(step, passed, [next(parts) for _ in range(self.settings.accumulate)])
            self.progress("recover", step + 1, self.course.steps)
        return self._end(self.course.steps, "steps", clock)

    def _step(self, step: int, passed: float, batches: Sequence[Examples]) -> None:
        """A step, and what is due after it; ``passed`` of the deadline has passed."""
        rate = schedule.rate(self.settings, step, self.course.steps, passed)
        self.journal.add_step(self.student.step(step, self.settings.lr * rate, batches))
        if self.course.held is not None and self.course.ends_epoch(step):
            self._validate(step)
        if step + 1 == self.course.steps or (step + 1) % self.settings.save_every == 0:
            self.checkpoints.save(step + 1, self.student, self.best)

    def _break_off(self, done: int) -> None:
        """Validates what the last of ``done`` steps left, if that was not done yet, and saves."""
        checked = self.journal.validations[-1].step if self.journal.validations else None
        if self.course.held is not None and done and checked != done - 1:
            self._validate(done - 1)
        self.checkpoints.save(done, self.student, self.best)

    def _validate(self, step: int) -> None:
        """Errors on the structures held out; keeps the best weights."""
        batches = self.course.held_batches(self.settings.batch, self.processes)
        row = self.student.validate(step, self.journal.rate, batches)
        if self.best is None or row.loss < self.best.loss:
            self.best = Best(row.loss, step, self.student.averages())
            self.checkpoints.save_best(self.best)
        self.journal.add_validation(row)

    def _end(self, steps: int, stopped: Literal["steps", "deadline"], clock: Clock) -> Ended:
        """Leaves the student with the best weights, or the last averages."""
        best = self.best
        self.student.set_weights(self.student.averages() if best is None else best.weights)
        self.checkpoints.close()
        return Ended(steps, stopped, None if best is None else best.step, clock.seconds)
