"""The training loop: a student learns from a teacher, from labels, or from both."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ase import Atoms
from torch import Tensor, nn

from irprune.atomistic import Atomistic
from irprune.data.frames import check_frames
from irprune.errors import CheckFailed, UsageError
from irprune.evaluate.potential import Potential
from irprune.recover import fingerprint, schedule
from irprune.recover.features import Watched
from irprune.recover.learner import LEARNERS
from irprune.recover.lessons import Lessons
from irprune.recover.loss import Found, compare, count, named_errors, terms_of
from irprune.recover.needed import check_terms
from irprune.recover.parallel import ALONE, Processes, share
from irprune.recover.result import Row, TrainResult
from irprune.recover.runfolder import RunFolder
from irprune.recover.settings import FREE, Settings
from irprune.recover.shares import shares_of
from irprune.recover.targets import PROBE, Examples, Labels, Source, Teacher, join

Progress = Callable[[str, int, int], None]


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
    about = teacher_atomistic or atomistic
    wise = None if teacher is None else Potential(teacher, about, _head_of(about, head))
    return _Run(
        student, wise, atomistic, frames, settings, valid, seed, head, run, processes, progress
    ).go(resume)


def _head_of(teacher: Atomistic, head: str | None) -> str | None:
    """The student's head where the teacher has it, else the teacher's only or default one."""
    return head if head in teacher.heads else None


class _Run:
    """One run: what does not change during it, and the loop."""

    def __init__(
        self,
        student: nn.Module,
        teacher: Potential | None,
        atomistic: Atomistic,
        frames: Sequence[Atoms],
        settings: Settings,
        valid: Sequence[Atoms],
        seed: int,
        head: str | None,
        run: RunFolder | None,
        processes: Processes,
        progress: Progress | None,
    ) -> None:
        self.settings, self.seed, self.processes = settings, seed, processes
        self.run = run if processes.first else None
        self.state_of = run
        self.progress = progress or (lambda what, done, total: None)
        self.parameters = {k: p for k, p in student.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise UsageError(
                "the student has no parameters that require a gradient: nothing to train"
            )
        self.model = Potential(student, atomistic, head)
        if settings.precision == "bf16" and self.model.dtype == torch.float64:
            raise UsageError(
                "recover: precision=bf16 does nothing to a float64 model, which torch's autocast"
                " leaves as it is; load it in float32 (--dtype float32), or use precision=model"
            )
        self.head = head
        shares = shares_of(settings, teacher is not None)
        wise = None if teacher is None else self._teacher(teacher)
        self.lessons = self._lessons(frames, "targets", shares, wise)
        self.held = (
            self._lessons(valid, "targets of held-out structures", shares, wise)
            if len(valid)
            else None
        )
        self.terms = terms_of(settings, shares, self.lessons.spreads("teacher.features "))
        check_terms(self.terms, self.lessons, self.held)
        self.size = settings.batch * settings.accumulate * processes.world
        self.steps = settings.total_steps(len(self.lessons), self.size)
        self.learner = LEARNERS[settings.optimizer](self.parameters, settings)
        self.rows: list[Row] = []
        self.checks: list[Row] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self.fingerprints = {
            "data": fingerprint.of_frames(frames),
            "held-out data": fingerprint.of_frames(valid),
            "first weights": fingerprint.of_weights(student),
            "teacher": fingerprint.of_weights(None if teacher is None else teacher.module),
        }
        self.n_frames, self.n_valid = len(frames), 0 if self.held is None else len(self.held)

    def _teacher(self, teacher: Potential) -> Teacher:
        s = self.settings
        return Teacher(
            teacher,
            self.model,
            stress=s.stress_weight > 0,
            features=s.feature_weight > 0,
            node_energy=s.node_energy_weight > 0,
            probe_seed=self.seed if s.hessian_weight > 0 else None,
        )

    def _lessons(
        self,
        frames: Sequence[Atoms],
        what: str,
        shares: Mapping[str, float],
        teacher: Teacher | None,
    ) -> Lessons:
        check_frames(frames, self.model.atomistic)
        if teacher is not None:
            check_frames(frames, teacher.model.atomistic)
        labels = Labels(frames, self.model) if "labels" in shares else None
        both: dict[str, Source | None] = {"labels": labels, "teacher": teacher}
        sources = {k: s for k in shares if (s := both[k]) is not None}
        made = Lessons(frames, self.model, self.settings.workers)
        made.prepare(
            sources,
            self.settings.max_force,
            self.processes,
            lambda done, total: self.progress(what, done, total),
        )
        return made

    def identity(self) -> dict[str, Any]:
        """What a saved state must agree with."""
        own = {k: v for k, v in self.settings.to_json().items() if k not in FREE}
        return {
            **own,
            **self.fingerprints,
            "steps": self.steps,
            "structures per step": self.size,
            "seed": self.seed,
            "head": self.head,
            "structures": len(self.lessons),
            "held-out structures": self.n_valid,
        }

    def go(self, resume: bool) -> TrainResult:
        """Trains."""
        start, stopped = time.monotonic(), "steps"
        first = self._begin(resume)
        plan = (
            part
            for step in range(first, self.steps)
            for part in share(
                schedule.chosen(step, self.size, len(self.lessons), self.seed),
                self.processes,
                self.settings.accumulate,
            )
        )
        parts = self.lessons.stream(plan)
        step = first
        for step in range(first, self.steps):
            clock = self._clock(start)
            if clock >= 1:
                stopped = "deadline"
                break
            rate = self.settings.lr * schedule.rate(self.settings, step, self.steps, clock)
            batches = [join(next(parts)) for _ in range(self.settings.accumulate)]
            self._log("step", self._step(step, rate, batches))
            last = step + 1 == self.steps
            if self.held and (last or schedule.ends_epoch(step, self.size, len(self.lessons))):
                self._validate(step)
            if last or (step + 1) % self.settings.save_every == 0:
                self._save(step + 1)
            self.progress("recover", step + 1, self.steps)
        else:
            step = self.steps
        if stopped == "deadline":
            if self.held and step and (not self.checks or self.checks[-1].step != step - 1):
                self._validate(step - 1)
            self._save(step)
        self._finish()
        return TrainResult(
            tuple(self.rows),
            tuple(self.checks),
            step,
            self.n_frames,
            self.n_frames - len(self.lessons),
            self.n_valid,
            None if self.best is None else self.best[1],
            stopped,
            time.monotonic() - start,
            {**self.settings.to_json(), "seed": self.seed, "processes": self.processes.world},
        )

    def _clock(self, start: float) -> float:
        """Share of the deadline that has passed, the same in all processes."""
        if self.settings.deadline is None:
            return 0.0
        passed = torch.tensor(
            [(time.monotonic() - start) * self.processes.first], device=self.model.device
        )
        self.processes.add_up([passed])
        return float(passed) / self.settings.deadline

    def _step(self, step: int, rate: float, batches: Sequence[Examples]) -> Row:
        counts = self._counts(batches)
        like = next(iter(self.parameters.values()))
        gradients = [torch.zeros_like(p) for p in self.parameters.values()]
        sums = torch.zeros(1 + len(self.terms), dtype=torch.float64, device=like.device)
        for examples in batches:
            total, absolute = self._compare(examples, counts, train=True)
            found = torch.autograd.grad(total, list(self.parameters.values()), allow_unused=True)
            for g, new in zip(gradients, found, strict=True):
                if new is not None:  # parameters of unseen elements have none
                    g += new
            sums += torch.stack([total.detach().double(), *absolute])
        self.processes.add_up([*gradients, sums])
        norm = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])))
        loss = float(sums[0])
        if not math.isfinite(norm) or not math.isfinite(loss):
            raise CheckFailed(
                f"training diverged at step {step}: loss {loss:.3g}, gradient norm"
                f" {norm:.3g}; lower the learning rate (now {rate:.2g})"
            )
        scale = min(1.0, self.settings.clip / max(norm, 1e-12))
        self.learner.step([g * scale for g in gradients], rate)
        return Row(step, loss, rate, norm, named_errors(self.terms, sums[1:], counts))

    def _counts(self, batches: Sequence[Examples]) -> Tensor:
        """How many numbers each term compares, over all processes [terms]."""
        out = count(self.terms, batches).to(self.model.device)
        self.processes.add_up([out])
        return out

    def _compare(
        self, examples: Examples, counts: Tensor, train: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """This part of the loss, and Σ |error| of each term."""
        whats = {t.what for t in self.terms}
        with self._precision():
            prediction = self.model.evaluate(
                examples.batch,
                forces="forces" in whats,
                stress="stress" in whats,
                create_graph=train,
                along=examples.targets[PROBE] if "hessian" in whats else None,
            )
        module = self.model.module
        seen = module.taken() if isinstance(module, Watched) and "features" in whats else {}
        return compare(self.terms, Found(prediction, examples.batch, seen), examples, counts)

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.settings.precision == "model":
            return contextlib.nullcontext()
        return torch.autocast(self.model.device.type, torch.bfloat16)

    def _validate(self, step: int) -> None:
        """Errors of the averaged weights on the held-out structures; keeps the best."""
        assert self.held is not None
        numbers = list(range(len(self.held)))[self.processes.rank :: self.processes.world]
        size = self.settings.batch
        plan = [numbers[i : i + size] for i in range(0, len(numbers), size)]
        with self.learner.averaged():
            batches = [join(part) for part in self.held.stream(plan)]
            counts = self._counts(batches) if batches else self._none()
            sums = torch.zeros(1 + len(self.terms), dtype=torch.float64, device=self.model.device)
            for examples in batches:
                total, absolute = self._compare(examples, counts, train=False)
                sums += torch.stack([total.detach().double(), *absolute])
            self.processes.add_up([sums])
            loss = float(sums[0])
            if not math.isfinite(loss):
                raise CheckFailed(
                    f"training diverged: the loss on the held-out structures is {loss:.3g} after"
                    f" step {step}; lower the learning rate (now {self._lr():.2g}), or remove"
                    " held-out structures with atoms on top of each other"
                )
            row = Row(step, loss, self._lr(), 0.0, named_errors(self.terms, sums[1:], counts))
            if self.best is None or loss < self.best[0]:
                weights = {k: p.detach().clone() for k, p in self.parameters.items()}
                self.best = (loss, step, weights)
                if self.run is not None:
                    self.run.save_best({"identity": self.identity(), "weights": weights})
        self._log("validation", row)

    def _none(self) -> Tensor:
        """The counts of a process without structures to validate."""
        out = torch.zeros(len(self.terms), dtype=torch.float64, device=self.model.device)
        self.processes.add_up([out])
        return out

    def _lr(self) -> float:
        return self.rows[-1].lr if self.rows else 0.0

    def _log(self, kind: str, row: Row) -> None:
        (self.rows if kind == "step" else self.checks).append(row)
        if self.run is not None:
            self.run.log({"kind": kind, **row.to_json()})

    def _begin(self, resume: bool) -> int:
        """The first step: 0, or that of the saved state."""
        state = None
        if self.run is not None:
            state = self.run.start(resume)
        self.processes.wait()
        if self.run is None and self.state_of is not None and resume:
            state = self.state_of.start(True) if self.state_of.state_file.exists() else None
        if state is None or self.state_of is None:
            return 0
        file = self.state_of.state_file
        changed = [k for k, v in self.identity().items() if state["identity"].get(k) != v]
        if changed:
            was, now = state["identity"], self.identity()
            text = ", ".join(f"{k} was {was.get(k)} and is {now[k]}" for k in changed)
            raise UsageError(f"cannot resume from {file} with other settings: {text}")
        shapes = {k: v.shape for k, v in state["parameters"].items()}
        if shapes != {k: v.shape for k, v in self.parameters.items()}:
            raise UsageError(f"cannot resume from {file}: it is of a student with other parameters")
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(state["parameters"][name])
        self.learner.load(state["learner"])
        if state["best"] is not None:
            loss, step, weights = state["best"]
            self.best = (loss, step, {k: v.to(self.parameters[k]) for k, v in weights.items()})
        if self.run is not None:
            for row in self.run.rows(state["step"]):
                kind = row.pop("kind")
                (self.rows if kind == "step" else self.checks).append(Row.from_json(row))
        return int(state["step"])

    def _save(self, step: int) -> None:
        if self.run is not None:
            self.run.save(
                {
                    "identity": self.identity(),
                    "step": step,
                    "parameters": {k: p.detach() for k, p in self.parameters.items()},
                    "learner": self.learner.state(),
                    "best": self.best,
                }
            )

    def _finish(self) -> None:
        """Leaves the student with the best weights, or the last averages."""
        if self.best is not None:
            weights = self.best[2]
        else:
            with self.learner.averaged():
                weights = {k: p.detach().clone() for k, p in self.parameters.items()}
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(weights[name])
        if self.run is not None:
            self.run.close()
