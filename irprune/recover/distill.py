"""Brief distillation: a student learns the energies, forces and stress of its teacher."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from irprune.atomistic import Atomistic
from irprune.errors import CheckFailed, UsageError
from irprune.evaluate.potential import Potential
from irprune.recover.average import Average
from irprune.recover.loss import Weights, loss_of
from irprune.recover.state import load_state, save_state
from irprune.recover.targets import Examples, calm, from_labels, from_teacher, join

Progress = Callable[[int, int], None]
_LAST_RATE = 0.01
"""The learning rate ends at this fraction of its peak."""


@dataclass(frozen=True)
class Row:
    """One training step, measured on its own batch before the step was made."""

    step: int
    loss: float
    energy_mae_ev_per_atom: float
    force_mae_ev_per_a: float
    stress_mae_ev_per_a3: float
    lr: float
    grad_norm: float


@dataclass(frozen=True)
class DistillResult:
    """What a distillation did; JSON-able through ``to_json``."""

    history: tuple[Row, ...]
    steps: int
    """Steps done, those before a resumption included."""
    n_frames: int
    n_left_out: int
    """Frames with a force above the limit."""
    stopped: str
    """``steps`` or ``deadline``."""
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; errors that were not measured become ``None``."""
        out = asdict(self)
        out["history"] = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()}
            for r in self.history
        ]
        return out


def distill(
    student: nn.Module,
    teacher: nn.Module | None,
    atomistic: Atomistic,
    frames: Sequence[Atoms],
    *,
    steps: int,
    batch_size: int = 8,
    lr: float = 1e-3,
    seed: int = 0,
    energy_weight: float = 1.0,
    force_weight: float = 1.0,
    stress_weight: float = 0.0,
    clip: float = 10.0,
    ema: float = 0.99,
    weight_decay: float = 0.0,
    max_force: float = 50.0,
    head: str | None = None,
    progress: Progress | None = None,
    deadline_s: float | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    resume: bool = False,
) -> DistillResult:
    """Trains the parameters of ``student`` that require a gradient, in place, and leaves it with
    the moving average of its weights.

    AdamW, linear warm-up over a twentieth of the steps, then a cosine to 1 % of ``lr``. The same
    arguments give the same weights on the same machine, unless a deadline cuts the run short.

    Args:
        student: a model (see ``Atomistic``), trained in its own dtype.
        teacher: a model whose predictions are computed once at the start; ``None`` learns the
            labels of the frames instead.
        atomistic: what both models run on.
        frames: structures.
        steps: optimizer steps.
        batch_size: structures per step.
        lr: peak learning rate.
        seed: of the order of the frames.
        energy_weight: of the mean absolute error of energies, per eV/atom.
        force_weight: per eV/Å.
        stress_weight: per eV/Å³; zero computes no stress.
        clip: largest norm of the gradient of all parameters.
        ema: decay of the moving average; 0 uses the last weights.
        weight_decay: of AdamW.
        max_force: eV/Å; frames with a larger force are left out.
        head: of the model, if it has several.
        progress: called with (steps done, steps).
        deadline_s: stop after this many seconds; the learning rate then follows the clock.
        checkpoint: a file to save the state to, every ``checkpoint_every`` steps and at the end.
        checkpoint_every: steps between two savings.
        resume: continue from ``checkpoint`` if it is there.

    Raises:
        UsageError: settings that make no sense, nothing to train, or a checkpoint of other ones.
        DataError: frames that cannot be used.
        CheckFailed: the loss is no longer finite.
    """
    _check_settings(steps, batch_size, lr, clip, ema, checkpoint_every)
    weights = Weights(energy_weight, force_weight, stress_weight)
    parameters = {k: p for k, p in student.named_parameters() if p.requires_grad}
    if not parameters:
        raise UsageError("the student has no parameters that require a gradient: nothing to train")
    model = Potential(student, atomistic, head)
    if teacher is None:
        labelled = from_labels(model, frames)
    else:
        labelled = from_teacher(
            model, Potential(teacher, atomistic, head), frames, stress=stress_weight > 0
        )
    examples = calm(labelled, max_force)
    optimizer = torch.optim.AdamW(parameters.values(), lr=lr, weight_decay=weight_decay)
    average = Average(parameters, ema)
    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "weights": list(asdict(weights).values()),
        "clip": clip,
        "ema": ema,
        "weight_decay": weight_decay,
        "n_examples": len(examples),
    }
    rows: list[Row] = []
    if resume and checkpoint is not None and checkpoint.exists():
        rows = [Row(**r) for r in load_state(checkpoint, parameters, optimizer, average, settings)]
    start, stopped = time.monotonic(), "steps"
    for step in range(len(rows), steps):
        elapsed = time.monotonic() - start
        if deadline_s is not None and elapsed >= deadline_s:
            stopped = "deadline"
            break
        done = max(step / steps, elapsed / deadline_s if deadline_s else 0.0)
        rate = lr * _rate(step, steps, done)
        batch = join([examples[i] for i in _chosen(step, batch_size, len(examples), seed)])
        rows.append(_step(model, batch, weights, parameters, optimizer, rate, clip, step))
        average.update(parameters)
        if checkpoint is not None and (step + 1) % checkpoint_every == 0:
            save_state(checkpoint, parameters, optimizer, average, settings, rows)
        if progress is not None:
            progress(step + 1, steps)
    if checkpoint is not None:
        save_state(checkpoint, parameters, optimizer, average, settings, rows)
    if ema > 0:
        average.write_to(parameters)
    left_out = len(frames) - len(examples)
    seconds = time.monotonic() - start
    return DistillResult(tuple(rows), len(rows), len(frames), left_out, stopped, seconds)


def _step(
    model: Potential,
    examples: Examples,
    weights: Weights,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    rate: float,
    clip: float,
    step: int,
) -> Row:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    out = model.evaluate(
        examples.batch,
        forces=weights.forces > 0,
        stress=weights.stress > 0,
        create_graph=True,
    )
    loss = loss_of(out, examples, weights)
    gradients = _gradients(loss.total, parameters)
    norm = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])))
    total = float(loss.total.detach())
    if not math.isfinite(norm) or not math.isfinite(total):
        raise CheckFailed(
            f"training diverged at step {step}: loss {total:.3g}, gradient norm"
            f" {norm:.3g}; lower the learning rate (now {rate:.2g})"
        )
    for parameter, gradient in zip(parameters.values(), gradients, strict=True):
        parameter.grad = gradient * min(1.0, clip / max(norm, 1e-12))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Row(
        step,
        total,
        loss.energy_mae,
        loss.force_mae,
        loss.stress_mae,
        rate,
        norm,
    )


def _gradients(total: Tensor, parameters: dict[str, nn.Parameter]) -> list[Tensor]:
    """Of each parameter; zero for those that the loss does not depend on (unseen elements)."""
    values = list(parameters.values())
    found = torch.autograd.grad(total, values, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, values, strict=True)]


def _rate(step: int, steps: int, done: float) -> float:
    """Fraction of the peak rate: linear warm-up over a twentieth of the run (by steps or clock),
    then half a cosine over what remains.
    """
    rise = max((step + 1) / (max(1, steps // 20) + 1), 20 * done)
    if rise < 1:
        return rise
    return _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _chosen(step: int, batch_size: int, n: int, seed: int) -> list[int]:
    """Numbers of the frames of one step: each epoch is a permutation that depends on its number.

    Needs no state, so that a resumed run sees the same frames.
    """
    size = min(batch_size, n)
    first = step * size
    epochs = {
        e: np.random.default_rng([seed, e]).permutation(n)
        for e in range(first // n, (first + size - 1) // n + 1)
    }
    return [int(epochs[k // n][k % n]) for k in range(first, first + size)]


def _check_settings(
    steps: int, batch_size: int, lr: float, clip: float, ema: float, every: int
) -> None:
    if steps < 0 or batch_size < 1 or every < 1 or not lr > 0 or not clip > 0 or not 0 <= ema < 1:
        raise UsageError(
            "distill needs steps >= 0, batch_size >= 1, checkpoint_every >= 1, lr > 0, clip > 0"
            f" and 0 <= ema < 1, got steps={steps}, batch_size={batch_size},"
            f" checkpoint_every={every}, lr={lr}, clip={clip}, ema={ema}"
        )
