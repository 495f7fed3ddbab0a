from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from irprune.data.choice import View
from irprune.data.generate import generate
from irprune.errors import CheckFailed, DataError, UsageError
from irprune.evaluation.metrics import compare_potentials
from irprune.evaluation.potential import Potential
from irprune.recover.average import Average
from irprune.recover.checkpoints import Checkpoints
from irprune.recover.holdout import held_out
from irprune.recover.journal import Journal
from irprune.recover.parallel import Processes, join_group
from irprune.recover.runfolder import RunFolder
from irprune.recover.schedule import chosen
from irprune.recover.settings import Settings
from irprune.recover.trainer import train
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


def distill(learner, teacher, about, frames, valid=(), run=None, resume=False, seed=0, progress=None,
            **settings):  # fmt: skip
    return train(learner, teacher, about, frames, Settings(**settings), valid=valid, run=run,
                 resume=resume, seed=seed, progress=progress)  # fmt: skip


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def test_the_student_comes_closer_to_its_teacher() -> None:
    learner, teacher = student(), Toy()
    before = weights(teacher).clone()
    calls: list[tuple[str, int, int]] = []
    error = compare_potentials(Potential(learner, TOY), Potential(teacher, TOY), FRAMES)
    result = distill(
        learner,
        teacher,
        TOY,
        FRAMES,
        steps=150,
        lr=1e-2,
        stress_weight=1.0,
        progress=lambda what, i, n: calls.append((what, i, n)),
    )
    after = compare_potentials(Potential(learner, TOY), Potential(teacher, TOY), FRAMES)
    assert after.force_mae_ev_per_a < 0.5 * error.force_mae_ev_per_a
    assert after.energy_mae_ev_per_atom < 0.5 * error.energy_mae_ev_per_atom
    assert after.stress_mae_gpa < 0.7 * error.stress_mae_gpa
    assert torch.equal(weights(teacher), before)
    assert weights(learner).dtype == torch.float32
    assert (result.steps, result.stopped, len(result.history)) == (150, "steps", 150)
    assert result.history[-1].lr < 0.05 * max(r.lr for r in result.history)
    assert calls[15] == ("targets", 16, 16)
    assert calls[-1] == ("recover", 150, 150)
    json.dumps(result.to_json(), allow_nan=False)


def test_a_seed_decides_everything() -> None:
    runs = []
    for seed in (0, 0, 1):
        learner = student()
        distill(learner, Toy(), TOY, FRAMES, steps=6, batch=4, seed=seed)
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
    assert np.isnan(result.history[0].errors["force_mae_ev_per_a"])
    assert result.to_json()["history"][0]["force_mae_ev_per_a"] is None
    with pytest.raises(DataError, match="or a teacher"):
        distill(b, None, TOY, FRAMES, steps=4)


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole, broken, file = student(), student(), tmp_path / "run"
    settings = {"steps": 10, "batch": 4, "save_every": 3}
    distill(whole, Toy(), TOY, FRAMES, **settings)

    def stop(what: str, done: int, total: int) -> None:
        if what == "recover" and done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(broken, Toy(), TOY, FRAMES, run=RunFolder(file), progress=stop, **settings)
    fresh = student()
    result = distill(fresh, Toy(), TOY, FRAMES, run=RunFolder(file), resume=True, **settings)
    assert result.steps == 10
    assert torch.equal(weights(whole), weights(fresh))
    with pytest.raises(UsageError, match=r"lr was 0.002 and is 0.1"):
        distill(fresh, Toy(), TOY, FRAMES, run=RunFolder(file), resume=True, lr=0.1, **settings)
    (file / "state.pt").write_bytes(b"noise")
    with pytest.raises(UsageError, match="delete it to start again"):
        distill(fresh, Toy(), TOY, FRAMES, run=RunFolder(file), resume=True, **settings)


def test_a_deadline_stops_the_run() -> None:
    result = distill(student(), Toy(), TOY, FRAMES, steps=100_000, deadline=1.0)
    assert result.stopped == "deadline"
    assert 0 < result.steps < 100_000
    assert max(r.lr for r in result.history) > 0.3 * 2e-3
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
    for change in ({"lr": 0.0}, {"batch": 0}, {"ema": 1.0}, {"clip": 0.0}, {"steps": 0}):
        with pytest.raises(UsageError, match=f"no sense: {next(iter(change))}="):
            distill(student(), Toy(), TOY, FRAMES, **{"steps": 1, **change})
    with pytest.raises(UsageError, match="loss weights"):
        distill(student(), Toy(), TOY, FRAMES, steps=1, energy_weight=0, force_weight=0)


def test_every_epoch_sees_every_frame_once() -> None:
    seen = [i for step in range(14) for i in chosen(step, 3, 7, seed=5)]
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
        result = distill(learner, teacher, about, frames, steps=4, batch=4, lr=2e-3)
    assert result.history[-1].loss < result.history[0].loss


def test_accumulation_is_a_larger_batch() -> None:
    runs = []
    for change in ({"batch": 6}, {"batch": 3, "accumulate": 2}, {"batch": 2, "accumulate": 3}):
        learner = student().double()
        result = distill(learner, Toy(), TOY, FRAMES, steps=5, **change)
        runs.append((weights(learner), [r.loss for r in result.history]))
    for found, losses in runs[1:]:
        assert torch.allclose(found, runs[0][0], atol=1e-10)
        assert losses == pytest.approx(runs[0][1], rel=1e-10)


def test_worker_processes_change_nothing() -> None:
    runs = []
    for workers in (0, 2):
        learner = student()
        distill(learner, Toy(), TOY, FRAMES, steps=5, batch=4, workers=workers)
        runs.append(weights(learner))
    assert torch.equal(*runs)


def test_the_best_weights_on_held_out_structures_are_used(tmp_path: Path) -> None:
    learner, run = student(), RunFolder(tmp_path)
    valid = generate(["H", "O", "Cu"], 5, seed=9, max_atoms=8)
    # a rate at which the run gets worse in the end
    result = distill(
        learner, Toy(), TOY, FRAMES, valid, run, epochs=12, lr=0.05, decay="constant", ema=0.0
    )
    assert result.steps == 24
    assert [r.step for r in result.validation] == list(range(1, 24, 2))
    losses = [r.loss for r in result.validation]
    assert result.best == result.validation[int(np.argmin(losses))].step
    error = compare_potentials(Potential(learner, TOY), Potential(Toy(), TOY), valid)
    best = result.validation[int(np.argmin(losses))]
    assert error.force_mae_ev_per_a == pytest.approx(best.errors["force_mae_ev_per_a"], rel=1e-4)
    saved = torch.load(tmp_path / "best.pt", weights_only=True)["weights"]
    assert torch.equal(torch.cat([saved[k].reshape(-1) for k in saved]), weights(learner))
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (kinds.count("step"), kinds.count("validation")) == (24, 12)


def test_held_out_structures_come_in_groups() -> None:
    frames = [a.copy() for a in FRAMES]
    for i, atoms in enumerate(frames):
        atoms.info["trajectory"] = i // 4
    learn, held = held_out(frames, Settings(valid=0.25, group="trajectory"), seed=0)
    assert (len(learn), len(held)) == (12, 4)
    assert len({a.info["trajectory"] for a in held}) == 1
    learn, held = held_out(frames, Settings(valid=0.25), seed=0)
    assert (len(learn), len(held)) == (12, 4)
    with pytest.raises(UsageError, match=r"structure 0 .* has no 'id' in its info"):
        held_out(frames, Settings(valid=0.25, group="id"), seed=0)
    with pytest.raises(UsageError, match="leaves none to learn from"):
        held_out(frames[:4], Settings(valid=0.25, group="trajectory"), seed=0)


def test_labels_and_teacher_together() -> None:
    wrong = labelled()
    for atoms in wrong:
        atoms.calc.results["energy"] += 1.0 * len(atoms)
    history = distill(student(0.0), Toy(), TOY, wrong, steps=1, learn="both").history
    assert history[0].errors["labels_energy_mae_ev_per_atom"] == pytest.approx(1.0, abs=1e-4)
    assert history[0].errors["teacher_energy_mae_ev_per_atom"] < 1e-4
    # the Huber loss of an error far above delta: error − delta / 2, for the labels' share
    assert history[0].loss == pytest.approx(0.5 * (1.0 - 0.005), abs=1e-3)
    for learn in ("teacher", "both"):
        with pytest.raises(UsageError, match=f"learn={learn} needs a teacher"):
            distill(student(), None, TOY, wrong, steps=1, learn=learn)
    with pytest.raises(UsageError, match="hessian-weight can be learned from a teacher only"):
        distill(student(), None, TOY, wrong, steps=1, hessian_weight=1.0)


def test_squares() -> None:
    learner = student()
    model, wise = Potential(learner, TOY), Potential(Toy(), TOY)
    batch = model.collate(FRAMES)
    a, b = model.evaluate(batch), wise.evaluate(wise.collate(FRAMES))
    want = ((a.energy - b.energy) / batch.n_atoms).square().mean()
    want = want + (a.forces - b.forces).square().mean()
    history = distill(learner, Toy(), TOY, FRAMES, steps=1, batch=16, loss="mse").history
    assert history[0].loss == pytest.approx(float(want), rel=1e-4)


def test_slopes_of_forces_are_finite_differences() -> None:
    model = Potential(Toy(), TOY)
    atoms = FRAMES[3]
    direction = np.random.default_rng(0).normal(size=(len(atoms), 3))
    found = model.evaluate(model.collate([atoms]), along=torch.from_numpy(direction))
    step, moved = 1e-4, []
    for sign in (1, -1):
        copy = atoms.copy()
        copy.positions += sign * step * direction
        moved.append(model.evaluate(model.collate([copy])).forces)
    assert torch.allclose(found.force_slopes, (moved[0] - moved[1]) / (2 * step), atol=1e-6)
    assert found.force_slopes.abs().max() > 1e-3


def test_the_student_learns_slopes_and_energies_of_atoms() -> None:
    weighted = {"node_energy_weight": 1.0, "hessian_weight": 1.0}
    result = distill(student(), Toy(), TOY, FRAMES, steps=150, batch=16, lr=1e-2, **weighted)
    first, last = result.history[0].errors, result.history[-1].errors
    for name in ("node_energy_mae_ev", "force_slope_mae_ev_per_a2"):
        assert last[name] < 0.6 * first[name]


def test_schedule_free_learns_and_resumes(tmp_path: Path) -> None:
    pytest.importorskip("schedulefree")
    settings = {"steps": 30, "batch": 16, "lr": 2e-2, "optimizer": "schedule-free", "save_every": 7}
    whole = student()
    result = distill(whole, Toy(), TOY, FRAMES, valid=FRAMES[:2], **settings)
    assert result.history[-1].loss < 0.7 * result.history[0].loss
    assert {r.lr for r in result.history[2:]} == {2e-2}

    def stop(what: str, done: int, total: int) -> None:
        if what == "recover" and done == 17:
            raise KeyboardInterrupt

    broken = {**settings, "run": RunFolder(tmp_path)}
    with pytest.raises(KeyboardInterrupt):
        distill(student(), Toy(), TOY, FRAMES, valid=FRAMES[:2], progress=stop, **broken)
    again = student()
    resumed = distill(again, Toy(), TOY, FRAMES, valid=FRAMES[:2], resume=True, **broken)
    assert torch.equal(weights(whole), weights(again))
    assert [r.loss for r in resumed.history] == [r.loss for r in result.history]
    assert [r.loss for r in resumed.validation] == [r.loss for r in result.validation]


def test_other_data_or_weights_are_no_continuation(tmp_path: Path) -> None:
    settings = {"steps": 2, "run": RunFolder(tmp_path), "resume": True}
    distill(student(), Toy(), TOY, FRAMES, **settings)
    moved = [a.copy() for a in FRAMES]
    moved[0].positions += 0.01
    other = Toy()
    with torch.no_grad():
        other.pair += 0.1
    for what, args in (
        ("data", (student(), Toy(), TOY, moved)),
        ("first weights", (student(0.2), Toy(), TOY, FRAMES)),
        ("teacher", (student(), other, TOY, FRAMES)),
    ):
        with pytest.raises(UsageError, match=rf"with other settings: {what} was \w+ and is \w+$"):
            distill(*args, **settings)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    distill(student(), Toy(), TOY, FRAMES, run=RunFolder(tmp_path), steps=1)
    with pytest.raises(UsageError, match="holds a run already; give --resume"):
        distill(student(), Toy(), TOY, FRAMES, run=RunFolder(tmp_path), steps=1)


def test_bfloat16_is_near() -> None:
    exact, rough = (
        distill(student(), Toy(), TOY, FRAMES, steps=10, precision=p) for p in ("model", "bf16")
    )
    losses = [[r.loss for r in x.history] for x in (exact, rough)]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    distill(student(), Toy(), TOY, FRAMES, run=RunFolder(tmp_path, tensorboard=True), steps=2)
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_processes_add_up_dtypes_in_the_order_of_the_tensors(monkeypatch) -> None:
    """Order in a set follows addresses, and those differ between processes: sums would be mixed."""
    sent: list[torch.dtype] = []
    monkeypatch.setattr("torch.distributed.all_reduce", lambda t: sent.append(t.dtype))
    dtypes = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32]
    for order in (dtypes, dtypes[::-1], dtypes[3:] + dtypes[:3]):
        sent.clear()
        Processes(0, 2).add_up([torch.zeros(2, dtype=d) for d in order for _ in range(2)])
        assert sent == order


def test_every_process_knows_what_was_logged_and_one_alone_writes(
    tmp_path: Path, monkeypatch
) -> None:
    """By the last validation all decide alike whether one is due; if they did not, they would hang."""
    run = RunFolder(tmp_path)
    done = distill(student(), Toy(), TOY, FRAMES[2:], valid=FRAMES[:2], run=run, steps=2)
    logged = run.rows(2)
    monkeypatch.setattr(dist, "barrier", lambda: None)
    monkeypatch.setattr(
        dist, "broadcast_object_list", lambda box, src: box.__setitem__(0, logged[:])
    )
    second = Processes(1, 2)
    checkpoints = Checkpoints(RunFolder(tmp_path, tensorboard=True), second, {})
    assert checkpoints._state(True)["step"] == 2
    assert not (tmp_path / "tensorboard").exists()
    journal = Journal(checkpoints.writes_to, second)
    journal.read(2)
    assert tuple(journal.steps) == done.history
    assert tuple(journal.validations) == done.validation


def test_a_teacher_sees_its_own_elements_neighbours_and_heads() -> None:
    """Species are numbered by each model for itself, and a teacher may see further."""
    turned = replace(TOY, atomic_numbers=(29, 14, 8, 6, 1), cutoff=4.5, heads=("a", "Default"))
    wise, frames = Further(), [FRAMES[i] for i in (0, 3, 5)]
    own = Potential(wise, turned)
    result = train(
        student(0.0), wise, TOY, frames, Settings(steps=1, batch=3, loss="mse"),
        head="Default", teacher_atomistic=turned,
    )  # fmt: skip
    learner = Potential(student(0.0), TOY)
    batch = learner.collate(frames)
    a, b = learner.evaluate(batch), own.evaluate(own.collate(frames))
    want = ((a.energy - b.energy) / batch.n_atoms).square().mean()
    want = want + (a.forces - b.forces).square().mean()
    assert result.history[0].loss == pytest.approx(float(want), rel=1e-4)
    assert result.history[0].loss > 0.01
    few = replace(TOY, atomic_numbers=(1, 8))
    with pytest.raises(DataError, match=r"frame \d+ \(.*\): element Cu is not known to toy"):
        train(student(), wise, TOY, FRAMES, Settings(steps=1), teacher_atomistic=few)


class Further(Toy):
    """Sees up to 4.5 Å."""

    def forward(self, vectors, species, edge_index, head):
        return super().forward(vectors * 4.0 / 4.5, species, edge_index, head)


def test_a_loss_that_compares_nothing_is_an_error() -> None:
    bare = labelled()
    with pytest.raises(DataError) as caught:
        distill(student(), None, TOY, bare, steps=1, stress_weight=1.0)
    assert str(caught.value) == (
        "recover: stress-weight is set, but none of the 16 structures has a stress in its labels"
        " (only structures with a cell have one); set it to 0, or give structures that have it"
    )
    molecules = [a for a in FRAMES if not a.pbc.any()]
    with pytest.raises(DataError, match="has a stress in what the teacher says"):
        distill(student(), Toy(), TOY, molecules, steps=1, stress_weight=1.0)
    only = labelled(energy=True)
    with pytest.raises(DataError) as caught:
        distill(student(), None, TOY, only, steps=1, force_weight=0.0)
    assert str(caught.value) == (
        "recover: the loss compares energy, and none of the 16 structures has any of these; set the"
        " weight of what is there, or label them"
    )
    with pytest.raises(DataError, match="and none of the 16 held-out structures has any of these"):
        distill(student(), None, TOY, labelled(forces=True), only, steps=1, force_weight=0.0)


def test_some_structures_may_lack_a_stress() -> None:
    """The mean is over those that have one."""
    mixed = labelled()
    stressed = [i for i, a in enumerate(mixed) if a.cell.rank == 3][:2]
    for i in stressed:
        mixed[i].calc.results["stress"] = np.array([0.01, 0.02, 0.03, 0.004, 0.005, 0.006])
    learner = student()
    model = Potential(learner, TOY)
    found = model.evaluate(model.collate([mixed[i] for i in stressed]), stress=True).stress
    want = torch.tensor([[0.01, 0.006, 0.005], [0.006, 0.02, 0.004], [0.005, 0.004, 0.03]])
    options = {"loss": "mse", "energy_weight": 0.0, "force_weight": 0.0, "stress_weight": 2.0}
    history = distill(learner, None, TOY, mixed, steps=1, batch=16, **options).history
    assert history[0].loss == pytest.approx(2.0 * float((found - want).square().mean()), rel=1e-4)


def test_a_validation_that_is_not_finite_stops_the_run(monkeypatch) -> None:
    """NaN is smaller than nothing: the first weights would have stayed the best."""
    valid = generate(["H", "O", "Cu"], 3, seed=9, max_atoms=8)

    class Broken(Toy):
        def forward(self, vectors, species, edge_index, head):
            out = super().forward(vectors, species, edge_index, head)
            return out if torch.is_grad_enabled() and self.train_only(out) else out * torch.nan

        def train_only(self, out) -> bool:
            return len(out) == self.size

    learner = Broken().float()
    learner.size = sum(map(len, FRAMES))
    with pytest.raises(CheckFailed, match=r"held-out structures is nan after step 0; lower the"):
        distill(learner, Toy(), TOY, FRAMES, valid, steps=1, batch=16)


def test_a_teacher_that_fails_is_told_by_the_number_in_the_file() -> None:
    class Broken(Toy):
        def forward(self, vectors, species, edge_index, head):
            out = super().forward(vectors, species, edge_index, head)
            return out * torch.nan if len(out) == len(FRAMES[2]) else out

    learn = View(FRAMES, [0, 2])
    formula = FRAMES[2].get_chemical_formula()
    assert len(FRAMES[0]) != len(FRAMES[2])
    with pytest.raises(DataError) as error:
        distill(student(), Broken(), TOY, learn, steps=1)
    assert str(error.value) == (
        f"frame 2 ({formula}): the teacher's energy is not finite; remove this structure"
    )


def test_other_periodic_directions_are_other_data(tmp_path: Path) -> None:
    settings = {"steps": 1, "run": RunFolder(tmp_path), "resume": True}
    distill(student(), Toy(), TOY, FRAMES, **settings)
    open_ = [a.copy() for a in FRAMES]
    next(a for a in open_ if a.pbc.all()).pbc = (True, True, False)
    with pytest.raises(UsageError, match=r"other settings: data was \w+ and is \w+$"):
        distill(student(), Toy(), TOY, open_, **settings)


def test_bfloat16_needs_a_float32_model() -> None:
    with pytest.raises(UsageError, match="precision=bf16 does nothing to a float64 model"):
        distill(student().double(), Toy(), TOY, FRAMES, steps=1, precision="bf16")


def test_processes_on_gpus_each_take_their_own_device(monkeypatch) -> None:
    called: list[object] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("torch.cuda.set_device", called.append)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)
    monkeypatch.setattr("torch.distributed.init_process_group", called.append)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    assert join_group("cuda") == Processes(1, 2)
    assert called == ["cuda:1", "nccl"]
    called.clear()
    assert join_group("cpu") == Processes(1, 2)
    assert called == ["gloo"]
