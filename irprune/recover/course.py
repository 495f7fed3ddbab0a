"""What a run learns: structures with their targets, those held out, and the terms of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ase import Atoms

from irprune.data.frames import check_frames
from irprune.evaluation.potential import Potential
from irprune.recover import schedule
from irprune.recover.lessons import Lessons
from irprune.recover.loss import Term, terms_of
from irprune.recover.needed import check_terms
from irprune.recover.parallel import Processes, share
from irprune.recover.settings import Settings
from irprune.recover.shares import shares_of
from irprune.recover.targets import Examples, Labels, Source, Teacher, join

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Course:
    """Prepared once, before the first step; the same in all processes."""

    lessons: Lessons
    held: Lessons | None
    """Structures held out, if there are any."""
    terms: tuple[Term, ...]
    """Of the loss."""
    size: int
    """Structures per step, over all processes."""
    steps: int
    """Of the whole run."""

    def batches(
        self, first: int, seed: int, processes: Processes, accumulate: int
    ) -> Iterator[Examples]:
        """This process's batches from step ``first`` on, ``accumulate`` for every step."""
        plan = (
            part
            for step in range(first, self.steps)
            for part in share(
                schedule.chosen(step, self.size, len(self.lessons), seed), processes, accumulate
            )
        )
        return map(join, self.lessons.stream(plan))

    def held_batches(self, batch: int, processes: Processes) -> list[Examples]:
        """This process's share of the structures held out, in batches of ``batch``; may be empty."""
        assert self.held is not None
        numbers = list(range(len(self.held)))[processes.rank :: processes.world]
        plan = [numbers[i : i + batch] for i in range(0, len(numbers), batch)]
        return [join(part) for part in self.held.stream(plan)]

    def ends_epoch(self, step: int) -> bool:
        """Whether this step ends an epoch, or the run."""
        return step + 1 == self.steps or schedule.ends_epoch(step, self.size, len(self.lessons))


def prepare(
    student: Potential,
    teacher: Potential | None,
    frames: Sequence[Atoms],
    valid: Sequence[Atoms],
    settings: Settings,
    seed: int,
    processes: Processes,
    progress: Progress,
) -> Course:
    """Asks the sources about every structure.

    Args:
        student: whose batches are made.
        teacher: what is learned from, beside or in the place of labels.
        frames: structures to learn from.
        valid: structures held out; may be empty.
        settings: see ``Settings``.
        seed: of random directions.
        processes: each makes its share of the targets.
        progress: called with (what, done, total).

    Raises:
        UsageError: a teacher is asked for that is not there.
        DataError: structures that cannot be used, or nothing to learn.
    """
    shares = shares_of(settings, teacher is not None)
    wise = None if teacher is None else _teacher(teacher, student, settings, seed)

    def lessons_of(structures: Sequence[Atoms], what: str) -> Lessons:
        sources = _sources(structures, student, wise, shares)
        made = Lessons(structures, student, settings.workers)
        made.prepare(
            sources,
            settings.max_force,
            processes,
            lambda done, total: progress(what, done, total),
        )
        return made

    lessons = lessons_of(frames, "targets")
    held = lessons_of(valid, "targets of held-out structures") if len(valid) else None
    terms = terms_of(settings, shares, lessons.spreads("teacher.features "))
    check_terms(terms, lessons, held)
    size = settings.batch * settings.accumulate * processes.world
    return Course(lessons, held, terms, size, settings.total_steps(len(lessons), size))


def _teacher(teacher: Potential, student: Potential, settings: Settings, seed: int) -> Teacher:
    """The teacher, asked for what has a weight."""
    return Teacher(
        teacher,
        student,
        stress=settings.stress_weight > 0,
        features=settings.feature_weight > 0,
        node_energy=settings.node_energy_weight > 0,
        probe_seed=seed if settings.hessian_weight > 0 else None,
    )


def _sources(
    frames: Sequence[Atoms],
    student: Potential,
    teacher: Teacher | None,
    shares: Mapping[str, float],
) -> dict[str, Source]:
    """What says something about these structures, as far as it has a share of the loss."""
    check_frames(frames, student.atomistic)
    if teacher is not None:
        check_frames(frames, teacher.model.atomistic)
    labels = Labels(frames, student) if "labels" in shares else None
    both: dict[str, Source | None] = {"labels": labels, "teacher": teacher}
    return {k: s for k in shares if (s := both[k]) is not None}
