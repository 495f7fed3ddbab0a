"""The benchmarks: problems, timing in turn, resuming, the table, and what is committed."""

from __future__ import annotations

import ast
import copy
import json
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.calculator import Calculator

from benchmarks import machine, plan, prepare, pruned_vs_original, timing, worker
from benchmarks.files import read_json, sha256, write_json
from benchmarks.plot import plot
from benchmarks.problems import CRYSTALS, MODELS
from benchmarks.schema import problems_of
from benchmarks.table import BEGIN, END, table, write_into

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"
COMMITTED = sorted((FOLDER / "results").glob("*.json"))
assert COMMITTED
FLOPS = {"original": 1.0, "rebuilt": 1.0, "keep-0.5": 0.4}


class ToyClock:
    """A clock that only calls move on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def call(self, cost: float) -> Any:
        def run() -> None:
            self.now += cost

        return run


@pytest.mark.parametrize("name", list(CRYSTALS))
def test_crystals_have_the_size_asked_for_and_are_reproducible(name: str) -> None:
    crystal = CRYSTALS[name]
    for n in (8, 64, 216):
        atoms = crystal.supercell(n)
        assert len(atoms) == n
        assert atoms.pbc.all()
    assert np.array_equal(crystal.supercell(64).positions, crystal.supercell(64).positions)
    edges = worker.edges_per_atom(crystal.supercell(64), 5.0)
    assert edges == pytest.approx(worker.edges_per_atom(crystal.supercell(216), 5.0), rel=0.1)
    with pytest.raises(ValueError, match="atoms must be one of"):
        crystal.supercell(100)


def test_timing_in_turn_keeps_ratios_when_the_machine_gets_slower() -> None:
    clock = ToyClock()
    order: list[str] = []
    slowness = [1.0]

    def variant(name: str, cost: float) -> Any:
        def run() -> None:
            order.append(name)
            clock.now += cost * slowness[0]

        return run

    def slower(repeat: int) -> None:
        slowness[0] = 1.0 + repeat

    calls = {"original": variant("original", 2.0), "small": variant("small", 1.0)}
    times = timing.in_turn(calls, 4, slower, clock)
    assert order[:4] == ["original", "small", "small", "original"]
    ratios = timing.paired_ratios(times["small"], times["original"])
    assert ratios["ratios"] == [0.5] * 4
    assert (ratios["q1"], ratios["median"], ratios["q3"]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([1.0, 1.0], 2),
        ([9.0, 1.0, 1.0], 3),
        ([9.0, 6.0, 1.0, 1.0], 4),
        ([2.0**-i for i in range(9)], 6),
    ],
)
def test_warm_up_ends_when_calls_no_longer_get_faster(costs: list[float], expected: int) -> None:
    clock, left = ToyClock(), iter(costs)

    def call() -> None:
        clock.now += next(left)

    assert timing.settle(call, clock) == expected


def test_quartiles() -> None:
    assert timing.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
    assert timing.quartiles([7.0]) == (7.0, 7.0, 7.0)


class ToyCalculator(Calculator):
    """Remembers the positions that it calculated."""

    implemented_properties = ["energy", "forces"]

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = ()
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.seen.append(atoms.positions.copy())
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def test_a_timed_call_calculates_once_and_again_only_when_atoms_moved() -> None:
    calculator = ToyCalculator()
    bench = worker.Bench({"original": calculator}, CRYSTALS["Si"].supercell(8))
    for done in (1, 2, 3):
        bench.moved_call("original")
        assert len(calculator.seen) == done
    bench.calls["original"]()
    assert len(calculator.seen) == 3


def test_all_variants_see_the_same_atoms_in_a_round() -> None:
    calculators = {n: ToyCalculator() for n in ("original", "keep-0.5")}
    found = worker.measure(calculators, CRYSTALS["Si"].supercell(8), 3, 5.0)
    assert set(found["ratios"]) == {"keep-0.5"}
    assert len(found["ratios"]["keep-0.5"]["ratios"]) == 3
    a, b = calculators.values()
    assert len(a.seen) >= 5
    assert not np.array_equal(a.seen[-1], a.seen[-2])
    for ours, theirs in zip(a.seen[-3:], b.seen[-3:], strict=True):
        assert np.array_equal(ours, theirs)


def test_the_worker_does_not_import_irprune() -> None:
    todo, seen = ["worker"], set()
    while todo:
        name = todo.pop()
        seen.add(name)
        for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [str(node.module)]
            for module in modules:
                assert module.split(".")[0] not in ("irprune", "passes"), f"{name} imports {module}"
                root, _, own = module.partition(".")
                if root == "benchmarks" and own not in seen:
                    todo.append(own)
    assert seen == {"worker", "files", "problems", "timing"}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in which model files and timings are made up; gives the output folder."""

    def toy_module(name: str, arguments: list[str], threads: int, capture: bool = False) -> str:
        if name == "prepare":
            return toy_prepare(tmp_path / "pruned", arguments[0])
        job = read_json(Path(arguments[0]))
        if "probe" in job:
            return "noise\n" + json.dumps({"load": 0.1, "per_edge": {"1": 1e-6, "2": 6e-7}})
        (tmp_path / "workers").open("a").write(f"{job['model']} {job['threads']}\n")
        for problem in job["problems"]:
            write_json(Path(problem["output"]), toy_part(job) | {"key": problem["key"]})
        return ""

    monkeypatch.setattr(pruned_vs_original, "module", toy_module)
    return tmp_path


def toy_prepare(folder: Path, name: str) -> str:
    model = MODELS[name]
    for variant, flops in FLOPS.items():
        path, facts_path = prepare.files_of(model, variant, folder)
        folder.mkdir(exist_ok=True)
        path.write_text(variant)
        facts = {"recipe": prepare.recipe(variant), "checkpoint": "toy", "commit": "0" * 40}
        facts |= {"keep": prepare.keep_of(variant), "tier": "native", "sha256": sha256(path)}
        facts |= {"checks": [{"name": "reload", "value": 0.0, "tolerance": 1e-5, "ok": True}]}
        facts |= {"cutoff": 5.0, "params": int(1e6 * flops), "blocks": 10, "flops_node": 10 * flops}
        facts |= {"flops_edge": flops, "irreps": {"embedding": "8x0e", "layer 1": "8x0e"}}
        write_json(facts_path, facts)
    return ""


def toy_part(job: dict[str, Any]) -> dict[str, Any]:
    clock = ToyClock()
    times = timing.in_turn(
        {v: clock.call(FLOPS[v]) for v in job["variants"]}, job["repeats"], clock=clock
    )
    ratios = {v: timing.paired_ratios(t, times["original"]) for v, t in times.items()}
    del ratios["original"]
    return {"edges_per_atom": 30.0, "warmup": 2, "repeats": job["repeats"], "ratios": ratios}


ARGUMENTS = ["--models", "7net-0", "--atoms", "8,64", "--threads", "1,2", "--keep", "0.5"]


def run(folder: Path, *more: str) -> Any:
    pruned_vs_original.main([*ARGUMENTS, *more, "-o", str(folder)])
    return read_json(folder / "pruned_vs_original.json")


def test_smoke_run_writes_a_valid_result_and_resumes(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(toy, "--repeats", "3")
    assert problems_of(result) == []
    sizes = [(r["atoms"], r["threads"]) for r in result["results"]]
    assert sizes == [(8, 1), (8, 2), (64, 1), (64, 2)]
    timed = {v["variant"]: v for v in result["results"][0]["variants"]}
    assert timed["keep-0.5"]["median"] == pytest.approx(0.4)
    assert timed["keep-0.5"]["flops_ratio"] == pytest.approx(0.4)
    assert str(toy) not in json.dumps(result)
    assert (toy / "pruned_vs_original.svg").is_file()
    assert (toy / "pruned_vs_original.png").is_file()
    assert table(result) in capsys.readouterr().out
    started = (toy / "workers").read_text()
    assert started == "7net-0 1\n7net-0 2\n"

    (toy / "parts" / "7net-0-64atoms-2threads.json").unlink()
    again = run(toy, "--repeats", "3")
    assert (toy / "workers").read_text() == started + "7net-0 2\n"
    assert again["results"] == result["results"]


def test_measurements_of_other_model_files_are_not_reused(toy: Path) -> None:
    options = pruned_vs_original.parse([*ARGUMENTS, "-o", str(toy)])
    run(toy, "--repeats", "3")
    assert options.plan.groups() == []
    _, facts = prepare.files_of(MODELS["7net-0"], "keep-0.5", toy / "pruned")
    write_json(facts, read_json(facts) | {"sha256": "another"})
    assert len(options.plan.groups()) == 2


def test_repeats_follow_from_the_time_and_have_bounds() -> None:
    assert plan.choose_repeats(60.0, 60.0, 12.0) == 11
    assert plan.choose_repeats(60.0, 1000.0, 12.0) == plan.MIN_REPEATS
    assert plan.choose_repeats(0.0, 0.001, 12.0) == plan.MAX_REPEATS


@pytest.mark.parametrize(
    "bad",
    [
        ["--models", "8net"],
        ["--atoms", "100"],
        ["--threads", "0"],
        ["--keep", "1.5"],
        ["--keep", "half"],
        ["--repeats", "0"],
    ],
)
def test_bad_options_are_usage_errors(bad: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as error:
        pruned_vs_original.parse([*bad, "-o", str(tmp_path)])
    assert error.value.code == 2


def test_pipelines_of_the_recipes_parse() -> None:
    from irprune.pipeline import Pipeline

    for name in prepare.variant_names((0.75, 0.5))[2:]:
        text = prepare.recipe(name)
        assert f"keep={prepare.keep_of(name):g}" in text
        assert len(Pipeline.parse(text)) == 4


def test_the_schema_check_finds_faults(toy: Path) -> None:
    good = run(toy, "--repeats", "3")

    def broken(change: Any) -> list[str]:
        bad = copy.deepcopy(good)
        change(bad)
        return problems_of(bad)

    assert problems_of([]) == ["result: expected an object, got list"]
    assert broken(lambda r: r.pop("machine")) == ["result: no machine"]
    assert broken(lambda r: r.update(seconds=1)) == ["result: unknown key seconds"]
    assert "torch" in broken(lambda r: r["versions"].pop("torch"))[0]
    wrong = broken(lambda r: r["results"][0]["variants"][0].update(median=0.1))
    assert "quartiles are not those" in wrong[0]
    assert "rounds" in broken(lambda r: r["results"][0].update(repeats=9))[0]
    assert "path" in broken(lambda r: r.update(command="run -o /home/someone/out"))[0]
    assert broken(lambda r: r["models"]["7net-0"]["variants"].pop("keep-0.5"))
    facts = ("models", "7net-0", "variants", "keep-0.5", "checks", 0)
    assert "did not hold" in broken(lambda r: reduce(getitem, facts, r).update(ok=False))[0]


def test_table_goes_between_its_marks() -> None:
    assert write_into(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(ValueError, match="no <!--"):
        write_into("nothing here", "new")


def test_the_commit_and_the_machine_are_told() -> None:
    told = machine.machine()
    assert told["cores"] >= 1
    assert told["cpu"]
    assert set(machine.commit()) == {"hash", "dirty"}


def test_no_commit_is_told_where_git_knows_of_none(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert machine.commit() == {"hash": None, "dirty": None}


def test_committed_results_are_what_the_schema_says() -> None:
    assert {p.name: problems_of(read_json(p)) for p in COMMITTED} == {p.name: [] for p in COMMITTED}


def test_committed_results_cover_what_was_promised() -> None:
    for path in COMMITTED:
        result = read_json(path)
        wanted = {(m, n, t) for m in MODELS for n in (64, 216) for t in (1, 2)}
        assert set(result["models"]) == set(MODELS)
        assert {(r["model"], r["atoms"], r["threads"]) for r in result["results"]} == wanted
        for found in result["results"]:
            assert {v["keep"] for v in found["variants"]} == {1.0, 0.75, 0.5, 0.25}
        assert all(path.with_suffix(suffix).is_file() for suffix in (".svg", ".png"))


def test_the_readme_shows_the_committed_result() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in COMMITTED:
        assert write_into(readme, table(read_json(path))) == readme


def test_a_plot_of_a_part_of_the_models_is_drawn(toy: Path) -> None:
    result = run(toy, "--repeats", "2")
    result["results"] = result["results"][:1]
    plot(result, toy / "part")
    assert (toy / "part.svg").stat().st_size > 1000
