"""Experiments of accuracy: what files may say, how data are cut, which rates win, what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from benchmarks.accuracy import cost
from benchmarks.accuracy.config import Arm, Data, Pretraining, asked, read
from benchmarks.accuracy.datasets import moved_by, parts, shifted, shifts, told_by
from benchmarks.accuracy.picture import plot
from benchmarks.accuracy.report import (
    ERRORS,
    compute_at,
    equal_errors,
    published,
    rows,
    table,
)
from benchmarks.accuracy.run import arms_of, gather, jobs_of, made, part, told
from benchmarks.problems import MODELS
from benchmarks.table import write_into
from irprune.data.frames import labels_of
from irprune.evaluation.potential import Potential
from irprune.pipeline import Pipeline
from irprune.recover.settings import Settings
from tests.toys import TOY, Toy

CONFIGS = sorted((Path(__file__).parents[2] / "benchmarks/accuracy/configs").glob("*.yaml"))
SMALL = {
    "question": "?",
    "model": "7net-0",
    "data": {"file": "a.extxyz", "train": 8, "test": 4},
    "steps": [10, 20],
    "arms": [
        {"name": "pruned", "prune": "score{by=magnitude},select{keep=0.5},slice"},
        {"name": "scratch", "start": "scratch", "lr": [0.1, 0.2, 0.3],
         "prune": "score{by=magnitude},select{keep=0.5},slice"},
        {"name": "checkpoint", "start": "full", "steps": [0]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_the_experiments_can_be_run(path):
    experiment = read(path)
    assert (experiment.model in MODELS) != bool(experiment.pretrain)
    names = [a.name for a in experiment.arms]
    assert len(set(names)) == len(names)
    for arm in experiment.arms:
        assert arm.model in ("", *MODELS)
        Settings(**{**experiment.settings, **arm.settings}).check()
        if arm.prune:
            Pipeline.parse(arm.prune).check({"irreps"})


def experiment_of(folder: Path, **changes):
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return read(path)


def test_unknown_fields_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"small\.yaml: no such field: colour"):
        experiment_of(tmp_path, colour="red")
    with pytest.raises(ValueError, match=r"small\.yaml: arm: no such field: lrs"):
        experiment_of(tmp_path, arms=[{"name": "a", "lrs": [1]}])
    with pytest.raises(ValueError, match="arm a: start is pruned, scratch"):
        Arm("a", start="new")
    with pytest.raises(ValueError, match="arm a: start full and prune 'slice'"):
        Arm("a", start="full", prune="slice")


def test_a_checkpoint_that_the_experiment_trains_for_itself(tmp_path):
    plan = {"hidden": "4x0e+4x1o", "steps": 3, "lr": 0.01, "radial": [4]}
    experiment = experiment_of(tmp_path, model="own", pretrain=plan)
    other = experiment_of(tmp_path, model="own", pretrain={**plan, "steps": 4})
    assert experiment.pretrain == Pretraining("4x0e+4x1o", 3, 0.01, radial=(4,))
    assert made(experiment, tmp_path / "own") != made(other, tmp_path / "own")
    assert asked(experiment, experiment.arms[0]) != asked(other, other.arms[0])
    assert "3 more for the checkpoint" in told(experiment, (0,))
    with pytest.raises(ValueError, match=r"small\.yaml: pretrain: no such field: depth"):
        experiment_of(tmp_path, pretrain={**plan, "depth": 3})


def test_an_untrained_checkpoint_has_the_energies_of_the_labels(tmp_path):
    from benchmarks.accuracy.pretrain import untrained
    from irprune.families.mace.family import MaceFamily
    from irprune.families.mace.load import wrap
    from irprune.families.trace import trace_family

    frames = []
    for n, energy in ((1, -1.0), (2, -3.0)):
        atoms = Atoms(f"O{n}H", [[0.0, 0.0, 1.2 * i] for i in range(n + 1)])
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.full((n + 1, 3), 0.5))
        frames.append(atoms)
    plan = Pretraining("4x0e+4x1o", 1, 0.01, max_ell=1, correlation=2, radial=(4,))
    graph = trace_family(MaceFamily(), wrap(untrained(plan, (1, 8), frames), "x"))
    assert graph.atomistic.atomic_numbers == (1, 8)
    energies = graph.source.module.atomic_energies_fn.atomic_energies.flatten()
    assert energies.tolist() == pytest.approx([1.0, -2.0], abs=1e-5)  # of H and O
    assert float(graph.source.module.scale_shift.scale) == pytest.approx(0.5)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Forty structures of two elements in ten groups, two of them wild."""
    frames = []
    for i in range(40):
        atoms = bulk("Cu", cubic=True)
        atoms.symbols[: i % 4] = "O"
        atoms.rattle(0.05, seed=i)
        atoms.info.update(REF_energy=float(i), trajectory=i // 4, number=i)
        atoms.arrays["REF_forces"] = np.full((4, 3), 99.0 if i in (3, 17) else 0.1)
        frames.append(atoms)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.extxyz", frames)
    monkeypatch.setenv("IRPRUNE_SHARED", str(tmp_path))
    return "a.extxyz"


def numbers(frames):
    return {a.info["number"] for a in frames}


def test_parts_are_disjoint_and_the_test_part_is_one_for_all_seeds(data):
    given = Data(data, train=20, test=8, group="trajectory")
    found = [parts(given, TOY, seed) for seed in (0, 0, 1)]
    assert numbers(found[0].train) == numbers(found[1].train) != numbers(found[2].train)
    assert numbers(found[0].test) == numbers(found[2].test)
    for p in found:
        assert p.left_out == 2
        groups = [{a.info["trajectory"] for a in x} for x in (p.train, p.valid, p.test)]
        assert not groups[0] & groups[1]
        assert not (groups[0] | groups[1]) & groups[2]
        assert len(p.test) >= 8
        assert len(p.valid) >= 2
        assert len(p.train) + len(p.valid) >= 20


def test_elements_and_sizes_can_be_chosen(data):
    chosen = parts(Data(data, train=4, test=2, elements=("Cu",)), TOY, 0)
    assert all(set(a.get_chemical_symbols()) == {"Cu"} for a in (*chosen.train, *chosen.test))
    with pytest.raises(IndexError):
        parts(Data(data, train=4, test=2, max_atoms=3), TOY, 0).test[0]


def test_reference_energies_are_taken_out(data):
    model = Potential(Toy(), TOY)
    found = parts(Data(data, train=25, test=8), TOY, 0)
    for atoms in (*found.train, *found.valid, *found.test):
        own = float(model.evaluate(model.collate([atoms]), forces=False).energy)
        atoms.info["REF_energy"] = (
            own + 2.5 * sum(atoms.numbers == 8) - 1.5 * sum(atoms.numbers == 29)
        )
    moved, taken = shifted(found, model)
    assert taken == {8: pytest.approx(2.5), 29: pytest.approx(-1.5)}
    for atoms in moved.test:
        own = float(model.evaluate(model.collate([atoms]), forces=False).energy)
        assert labels_of(atoms).energy == pytest.approx(own, abs=1e-5)
        assert labels_of(atoms).forces == pytest.approx(np.full((4, 3), 0.1))


def test_structures_without_labels_get_those_of_the_model(data):
    model = Potential(Toy(), TOY)
    found = parts(Data(data, train=6, test=4, rattle=0.1), TOY, 0)
    first, second = (told_by(model, found, 0.1, seed) for seed in (0, 1))
    for atoms, was in zip(first.test, found.test, strict=True):
        assert atoms.positions != pytest.approx(was.positions, abs=1e-3)
        said = model.evaluate(model.collate([atoms]))
        assert labels_of(atoms).energy == pytest.approx(float(said.energy))
        assert labels_of(atoms).forces == pytest.approx(said.forces.numpy())
    assert [a.positions.tolist() for a in first.test] == [a.positions.tolist() for a in second.test]
    assert first.train[0].positions.tolist() != second.train[0].positions.tolist()


def test_another_level_of_theory_for_the_test_part(data):
    found = parts(Data(data, test_file=data, train=6, test=4, shift="test"), TOY, 0)
    assert numbers(found.test).isdisjoint(numbers(found.reference))
    model = Potential(Toy(), TOY)
    for atoms in (*found.test, *found.reference):
        own = float(model.evaluate(model.collate([atoms]), forces=False).energy)
        atoms.info["REF_energy"] = own + 0.5 * len(atoms)
    moved = moved_by(found.test, shifts(model, found.reference))
    for atoms in moved:
        own = float(model.evaluate(model.collate([atoms]), forces=False).energy)
        assert labels_of(atoms).energy == pytest.approx(own, abs=1e-5)
    with pytest.raises(ValueError, match="shift is '', all, or test with a test_file, got 'test'"):
        Data(data, shift="test")


def test_what_was_before_recovery_counts_as_no_steps():
    tests = [dict.fromkeys(ERRORS, v) for v in (0.5, 0.1)]
    common = {"arm": "a", "params": 10, "flops_chosen": 3.0}
    found = rows({"results": [
        {**common, "seed": s, "steps": 100, "flops": 9.0, "test": tests[1], "before": tests[0]}
        for s in (0, 1)]})  # fmt: skip
    assert [(r["steps"], r["seeds"], r["flops"]) for r in found] == [(0, 2, 3.0), (100, 2, 9.0)]
    assert found[0]["force_mae_ev_per_a"] == (0.5, 0.0)


def test_compute_at_an_error():
    curve = [(1.0, 0.8), (10.0, 0.4), (100.0, 0.1)]
    assert compute_at(curve, 0.9) == 1.0
    assert compute_at(curve, 0.4) == pytest.approx(10.0)
    assert compute_at(curve, 0.2) == pytest.approx(10**1.5)
    assert compute_at(curve, 0.05) is None


def test_compute_at_equal_errors():
    arms = [{"name": n, "start": n, "prune": "slice"} for n in ("pruned", "scratch")]
    results = [
        {"arm": arm, "seed": 0, "steps": steps, "flops": 1e12 * steps, "params": 1,
         "test": {"force_mae_ev_per_a": f, "energy_mae_ev_per_atom": e, "stress_mae_gpa": None}}
        for arm, steps, f, e in (
            ("pruned", 1, 0.4, 0.4), ("pruned", 10, 0.1, 0.3),
            ("scratch", 1, 0.8, 0.8), ("scratch", 40, 0.2, 0.2),
        )
    ]  # fmt: skip
    assert equal_errors({"arms": arms, "results": results}) == [
        "- forces, meV/Å: *scratch* ends at 200 after 40 TFLOP; *pruned* is there after 3.2:"
        " 12.6 times less.",
        "- energy, meV/atom: *scratch* ends at 200 after 40 TFLOP; *pruned* does not come down to"
        " that.",
    ]


def test_the_best_rate_is_taken_and_the_result_is_gathered(tmp_path):
    experiment = experiment_of(tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    tune, rest = jobs_of(experiment, folder, (0, 1, 2))
    assert [(j["arm"], j["steps"], j["seed"], j["lr"]) for j in tune] == [
        ("scratch", steps, 0, lr) for steps in (10, 20) for lr in (0.1, 0.2, 0.3)
    ]
    assert {j["arm"] for j in rest} == {"pruned", "checkpoint"}  # rates of scratch are not known
    for job, loss in zip(tune, (3.0, 1.0, 2.0, 3.0, 2.0, 1.0), strict=True):
        Path(job["output"]).write_text(json.dumps({"valid_loss": loss}))
    _, rest = jobs_of(experiment, folder, (0, 1))
    rates = {(j["steps"], j["lr"]) for j in rest if j["arm"] == "scratch"}
    assert rates == {(10, 0.2), (20, 0.3)}  # each budget has its own
    assert len(rest) == 2 * (2 + 2 + 1)
    for job in rest:
        test = {"force_mae_ev_per_a": 0.1 + 0.02 * job["seed"], "energy_mae_ev_per_atom": 0.01,
                "stress_mae_gpa": None}  # fmt: skip
        Path(job["output"]).write_text(json.dumps(
            {"arm": job["arm"], "steps": job["steps"], "seed": job["seed"], "params": 1000,
             "lr": job["lr"], "flops": 1e12 * job["steps"], "test": test,
             "valid_loss": 1.0}))  # fmt: skip
    assert part(folder, experiment.arms[1], 10, 0, 0.2).is_file()
    result = gather(experiment, folder, "command")
    (row,) = (r for r in rows(result) if r["arm"] == "scratch" and r["steps"] == 20)
    assert row["seeds"] == 2
    assert row["force_mae_ev_per_a"] == pytest.approx((0.11, 0.01 * 2**0.5))
    assert row["flops"] == 2e13
    text = table(result).splitlines()
    assert text[0].startswith(
        "| arm | parameters | steps | rate | training, TFLOP | seeds | forces, meV/Å |"
    )
    assert "| scratch | 1,000 | 20 | 0.3 | 20 | 2 | 110 ± 14 | 10 ± 0 |" in text
    plot(result, tmp_path / "picture")
    assert (tmp_path / "picture.svg").read_text().count("scratch") >= 1


def test_a_picture_against_the_numbers_of_the_arms(tmp_path):
    results = [
        {"arm": f"{kind} {share}", "steps": 100, "seed": 0, "params": 10, "flops": 2e12, "lr": 0.1,
         "flops_chosen": 1e12, "before": {**test, "force_mae_ev_per_a": 1.0}, "test": test}
        for kind in ("taylor", "random") for share in (0.25, 0.5)
        for test in [{"force_mae_ev_per_a": share, "energy_mae_ev_per_atom": None,
                      "stress_mae_gpa": None}]
    ]  # fmt: skip
    plot({"against": "share kept", "arms": [], "results": results}, tmp_path / "picture")
    drawn = (tmp_path / "picture.svg").read_text()
    for label in ("taylor, 100 steps", "random, 100 steps", "share kept (dotted: before training)"):
        assert f"<!-- {label} -->" in drawn
    assert "training, TFLOP" not in drawn
    arms = [{"name": "taylor", "start": "full"}]
    with pytest.raises(ValueError, match="the name of the arm 'taylor' does not end with a number"):
        experiment_of(tmp_path, against="share kept", arms=arms)


def test_parts_of_another_version_are_not_mixed_in(tmp_path):
    experiment = experiment_of(tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    arm = experiment.arms[0]
    path = part(folder, arm, 10, 0, arm.lr[0])
    path.write_text(json.dumps({"arm": "pruned", "asked": asked(experiment, arm)}))
    jobs_of(experiment, folder, (0,))
    jobs_of(experiment_of(tmp_path, steps=[10, 40]), folder, (0,))
    for change in (
        {"settings": {"batch": 4}},
        {"data": {**SMALL["data"], "train": 9}},
        {"arms": [{"name": "pruned", "prune": "score{by=random},select{keep=0.5},slice"}]},
    ):
        other = experiment_of(tmp_path, **change)
        with pytest.raises(
            SystemExit, match=r"parts of another version of small: pruned-10-0-0\.002"
        ):
            jobs_of(other, folder, (0,))


def test_what_is_counted():
    spent = cost.choosing("score,select{keep=0.5},slice,score{by=magnitude}", 10.0, [2] * 30)
    assert spent == cost.scoring(10.0, 48.0)  # 24 structures; weights alone cost nothing
    assert cost.choosing("score{by=fisher,structures=5}", 10.0, [2] * 30) == 9 * 10 * 10
    assert cost.training(10.0, 5.0, 2) == 9 * 10 * 5 * 2
    assert cost.labelling(10.0, 5.0) == 150
    assert cost.scoring(10.0, 5.0, probes=2) == (3 + 3 * 6) * 50


COMMITTED = sorted((CONFIGS[0].parents[2] / "results" / "accuracy").glob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_the_committed_result_is_on_its_page(path):
    folder = CONFIGS[0].parents[1]
    page = (folder / f"{path.stem}.md").read_text(encoding="utf-8")
    assert f"[{path.stem}.md]" in (folder / "README.md").read_text(encoding="utf-8")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert write_into(page, published(result)) == page
    experiment = read(folder / "configs" / f"{path.stem}.yaml")
    assert json.loads(json.dumps(arms_of(experiment))) == result["arms"]
    assert {r["seed"] for r in result["results"]} == {0, 1, 2}
    assert all(row["seeds"] == 3 for row in rows(result))
    assert path.with_suffix(".svg").is_file()
