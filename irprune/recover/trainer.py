"""Training: a student learns from a teacher, from labels, or from both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms
from torch import nn

from irprune.atomistic import Atomistic
from irprune.errors import UsageError
from irprune.evaluation.potential import Potential
from irprune.recover.checkpoints import Checkpoints
from irprune.recover.course import Progress, prepare
from irprune.recover.identity import identity_of
from irprune.recover.journal import Journal
from irprune.recover.learner import LEARNERS
from irprune.recover.loop import Loop
from irprune.recover.objective import Objective
from irprune.recover.parallel import ALONE, Processes
from irprune.recover.result import TrainResult
from irprune.recover.runfolder import RunFolder
from irprune.recover.settings import Settings
from irprune.recover.student import Student


def train(
    student: nn.Module,
    teacher: nn.Module | None,
    atomistic: Atomistic,
    frames: Sequence[Atoms],
    settings: Settings,
    *,
    valid: Sequence[Atoms] = (),
    seed: int = 0,
    head: str | None = None,
    teacher_atomistic: Atomistic | None = None,
    run: RunFolder | None = None,
    resume: bool = False,
    processes: Processes = ALONE,
    progress: Progress | None = None,
) -> TrainResult:
    """Trains the parameters of ``student`` that require a gradient, in place.

    It is left with the averaged weights: those that were best on ``valid``, or the last ones.

    Args:
        student: a model (see ``Atomistic``), trained in its own dtype and on its own device; a
            ``Watched`` one where features are learned.
        teacher: a model whose predictions are computed once at the start (``Watched`` for the same
            nodes); None learns labels.
        atomistic: what the student runs on.
        frames: structures to learn from.
        settings: see ``Settings``.
        valid: structures held out.
        seed: of the order of the structures and of random directions.
        head: of the student, if it has several; of the teacher too, if it has one of that name.
        teacher_atomistic: what the teacher runs on (its own elements and cutoff), if not the same.
        run: where to keep state, best weights and logs; None keeps nothing.
        resume: continue from the state in ``run``.
        processes: this process among others that call the same, each with its own copies.
        progress: called with (what, done, total).

    Raises:
        UsageError: settings that make no sense, nothing to train, or a state of another run.
        DataError: structures that cannot be used.
        CheckFailed: the loss is no longer finite.
    """
    settings.check()
    progress = progress or (lambda what, done, total: None)
    parameters = _trainable(student)
    model = Potential(student, atomistic, head)
    _check_precision(settings, model)
    about = teacher_atomistic or atomistic
    wise = None if teacher is None else Potential(teacher, about, _head_of(about, head))
    course = prepare(model, wise, frames, valid, settings, seed, processes, progress)
    pupil = Student(
        parameters,
        LEARNERS[settings.optimizer](parameters, settings),
        Objective(model, course.terms, settings.precision, processes),
        settings.clip,
    )
    identity = identity_of(settings, course, student, teacher, seed, head)
    checkpoints = Checkpoints(run, processes, identity)
    journal = Journal(checkpoints.writes_to, processes)
    loop = Loop(pupil, course, settings, seed, processes, checkpoints, journal, progress)
    ended = loop.go(resume)
    return TrainResult(
        tuple(journal.steps),
        tuple(journal.validations),
        ended.steps,
        len(frames),
        len(frames) - len(course.lessons),
        0 if course.held is None else len(course.held),
        ended.best,
        ended.stopped,
        ended.seconds,
        {**settings.to_json(), "seed": seed, "processes": processes.world},
    )


def _head_of(teacher: Atomistic, head: str | None) -> str | None:
    """The student's head where the teacher has it, else the teacher's only or default one."""
    return head if head in teacher.heads else None


def _trainable(student: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require a gradient, by name.

    Raises:
        UsageError: there are none.
    """
    out = {k: p for k, p in student.named_parameters() if p.requires_grad}
    if not out:
        raise UsageError("the student has no parameters that require a gradient: nothing to train")
    return out


def _check_precision(settings: Settings, model: Potential) -> None:
    """
    Raises:
        UsageError: torch's autocast does nothing to this model.
    """
    if settings.precision == "bf16" and model.dtype == torch.float64:
        raise UsageError(
            "recover: precision=bf16 does nothing to a float64 model, which torch's autocast"
            " leaves as it is; load it in float32 (--dtype float32), or use precision=model"
        )
