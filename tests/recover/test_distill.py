from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from irprune.data.generate import generate
from irprune.errors import CheckFailed, DataError, UsageError
from irprune.evaluate.metrics import compare_potentials
from irprune.evaluate.potential import Potential
from irprune.recover.average import Average
from irprune.recover.distill import _chosen, distill
from tests.adapters import sevennet
from tests.toys import TOY, Toy

FRAMES = generate(["H", "O", "Cu"], 16, seed=0, max_atoms=8)


def student(noise: float = 0.1) -> Toy:
    out = Toy().to(torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in out.parameters():
            p += noise * torch.randn(p.shape, generator=generator)
    return out


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def test_the_student_comes_closer_to_its_teacher() -> None:
    learner, teacher = student(), Toy()
    before = weights(teacher).clone()
    calls: list[tuple[int, int]] = []
    error = compare_potentials(Potential(learner, TOY), Potential(teacher, TOY), FRAMES)
    result = distill(
        learner,
        teacher,
        TOY,
        FRAMES,
        steps=150,
        lr=1e-2,
        stress_weight=1.0,
        progress=lambda i, n: calls.append((i, n)),
    )
    after = compare_potentials(Potential(learner, TOY), Potential(teacher, TOY), FRAMES)
    assert after.force_mae_ev_per_a < 0.5 * error.force_mae_ev_per_a
    assert after.energy_mae_ev_per_atom < 0.5 * error.energy_mae_ev_per_atom
    assert after.stress_mae_gpa < 0.7 * error.stress_mae_gpa
    assert torch.equal(weights(teacher), before)
    assert weights(learner).dtype == torch.float32
    assert (result.steps, result.stopped, len(result.history)) == (150, "steps", 150)
    assert result.history[-1].lr < 0.05 * max(r.lr for r in result.history)
    assert calls[-1] == (150, 150)
    json.dumps(result.to_json(), allow_nan=False)


def test_a_seed_decides_everything() -> None:
    runs = []
    for seed in (0, 0, 1):
        learner = student()
        distill(learner, Toy(), TOY, FRAMES, steps=6, batch_size=4, seed=seed)
        runs.append(weights(learner))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_force_loss_reaches_the_parameters_through_second_derivatives() -> None:
    learner = student()
    before = weights(learner)
    distill(learner, Toy(), TOY, FRAMES, steps=5, energy_weight=0.0)
    moved = weights(learner) != before
    assert moved.float().mean() > 0.5


def test_frozen_parameters_stay() -> None:
    learner = student()
    learner.pair.requires_grad_(False)
    before = learner.pair.clone()
    distill(learner, Toy(), TOY, FRAMES, steps=3)
    assert torch.equal(learner.pair, before)
    for p in learner.parameters():
        p.requires_grad_(False)
    with pytest.raises(UsageError, match="nothing to train"):
        distill(learner, Toy(), TOY, FRAMES, steps=3)


def labelled(**dropped: bool) -> list[Atoms]:
    out = []
    teacher = Potential(Toy(), TOY)
    for atoms in FRAMES:
        found = teacher.evaluate(teacher.collate([atoms]))
        copy = atoms.copy()
        results = {"energy": found.energy.item(), "forces": found.forces.numpy()}
        results = {k: v for k, v in results.items() if not dropped.get(k)}
        copy.calc = SinglePointCalculator(copy, **results)
        out.append(copy)
    return out


def test_labels_of_the_frames_serve_where_there_is_no_teacher() -> None:
    a, b = student(), student()
    distill(a, Toy(), TOY, FRAMES, steps=4)
    distill(b, None, TOY, labelled(), steps=4)
    assert torch.allclose(weights(a), weights(b), atol=1e-6)
    result = distill(b, None, TOY, labelled(forces=True), steps=4)
    assert np.isnan(result.history[0].force_mae_ev_per_a)
    assert result.to_json()["history"][0]["force_mae_ev_per_a"] is None
    with pytest.raises(DataError, match="or a teacher"):
        distill(b, None, TOY, FRAMES, steps=4)


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole, broken, file = student(), student(), tmp_path / "run" / "state.pt"
    settings = {"steps": 10, "batch_size": 4, "checkpoint_every": 3}
    distill(whole, Toy(), TOY, FRAMES, **settings)

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(broken, Toy(), TOY, FRAMES, checkpoint=file, progress=stop, **settings)
    fresh = student(noise=0.3)
    result = distill(fresh, Toy(), TOY, FRAMES, checkpoint=file, resume=True, **settings)
    assert result.steps == 10
    assert torch.equal(weights(whole), weights(fresh))
    with pytest.raises(UsageError, match=r"lr was 0.001 and is 0.1"):
        distill(fresh, Toy(), TOY, FRAMES, checkpoint=file, resume=True, lr=0.1, **settings)
    file.write_bytes(b"noise")
    with pytest.raises(UsageError, match="delete it to start again"):
        distill(fresh, Toy(), TOY, FRAMES, checkpoint=file, resume=True, **settings)


def test_a_deadline_stops_the_run() -> None:
    result = distill(student(), Toy(), TOY, FRAMES, steps=100_000, deadline_s=1.0)
    assert result.stopped == "deadline"
    assert 0 < result.steps < 100_000
    assert max(r.lr for r in result.history) > 0.3 * 1e-3
    assert result.history[-1].lr < 0.5 * max(r.lr for r in result.history)


def test_frames_with_wild_forces_are_left_out() -> None:
    teacher = Potential(Toy(), TOY)
    sizes = sorted(float(teacher.evaluate(teacher.collate([a])).forces.abs().max()) for a in FRAMES)
    limit = (sizes[-2] + sizes[-3]) / 2
    assert distill(student(), Toy(), TOY, FRAMES, steps=1, max_force=limit).n_left_out == 2
    with pytest.raises(DataError, match="every structure has a force above"):
        distill(student(), Toy(), TOY, [a for a in FRAMES if len(a) > 2][:3], steps=1, max_force=0)


def test_divergence_is_reported() -> None:
    learner = student()
    with torch.no_grad():
        learner.pair.fill_(torch.nan)
    with pytest.raises(CheckFailed, match="diverged at step 0"):
        distill(learner, Toy(), TOY, FRAMES, steps=2)


def test_settings_that_make_no_sense() -> None:
    for change in ({"lr": 0.0}, {"batch_size": 0}, {"ema": 1.0}, {"clip": 0.0}, {"steps": -1}):
        with pytest.raises(UsageError, match="distill needs"):
            distill(student(), Toy(), TOY, FRAMES, **{"steps": 1, **change})
    with pytest.raises(UsageError, match="loss weights"):
        distill(student(), Toy(), TOY, FRAMES, steps=1, energy_weight=0, force_weight=0)


def test_every_epoch_sees_every_frame_once() -> None:
    seen = [i for step in range(14) for i in _chosen(step, 3, 7, seed=5)]
    for epoch in range(6):
        assert sorted(seen[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert seen[:7] != seen[7:14]


def test_the_average_lags_behind() -> None:
    value = {"w": torch.zeros(1)}
    average = Average(value, 0.9)
    for _ in range(200):
        value["w"] += 1
        average.update(value)
    assert average.values["w"].item() == pytest.approx(200 - 9, abs=0.5)
    average.write_to(value)
    assert value["w"].item() == average.values["w"].item()


@pytest.mark.real
def test_sevennet_trains_on_forces() -> None:
    teacher, about = sevennet()
    learner, _ = sevennet()
    with torch.no_grad():
        for p in learner.parameters():
            p *= 1 + 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    frames = [a for a in generate(["Cu", "O"], 12, 0, max_atoms=4) if len(a) > 1][:4]
    with torch.jit.optimized_execution(False):  # compiling takes longer than running
        result = distill(learner, teacher, about, frames, steps=4, batch_size=4, lr=2e-3)
    assert result.history[-1].loss < result.history[0].loss
