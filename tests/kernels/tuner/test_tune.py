"""Both stages together with a fake compiler and a fake timer, and the commands."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

from irprune.backends import Reference
from irprune.cli import main as cli
from irprune.errors import CheckFailed, UsageError
from irprune.kernels.triton.config import Config, configs, deeper, pin, pinned, shallow
from irprune.kernels.tuner import cache, stage1, stage2, tune
from irprune.kernels.tuner.entry import key_of
from irprune.kernels.tuner.pool import CompilerDied
from irprune.kernels.tuner.stage2 import Problem, check, problem, race, with_gradients
from irprune.passmanager import no_progress
from irprune.specs.problems import SHAPES, problem_named
from irprune.specs.table import TableSpec
from irprune.tuning import TuneError, TuneRequest, tuner_named
from tests.kernels import specs
from tests.kernels.tuner.fakes import Compiler, scalars

pytest.importorskip("triton")

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(cache.TABLES, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    cache._told.clear()


@pytest.fixture
def compiler(monkeypatch):
    made = Compiler(lambda s: {"instructions": 10.0 * s.constexprs["BLOCK"]})
    monkeypatch.setattr(stage1, "read_facts", made.read)
    return made


class Clockwork:
    """A timer that is told how long each configuration takes, and drifts."""

    def __init__(self, seconds, drift=0.0):
        self.seconds, self.drift, self.calls = seconds, drift, []

    def __call__(self, call):
        call()
        config = call.config
        self.calls.append(config)
        return self.seconds[config] * (1 + self.drift * len(self.calls))


def call(config):
    def run():
        return None

    run.config = config
    return run


# Stage 2


def test_the_fastest_by_median_wins_and_configurations_take_turns():
    a, b, c = (Config(16, 1, n, "csr") for n in (1, 2, 3))
    timer = Clockwork({a: 3.0, b: 1.0, c: 2.0}, drift=0.01)
    found = race([(x, call(x)) for x in (a, b, c)], timer, rounds=3, warmup=1)
    assert [t.config for t in found] == [b, c, a]
    assert timer.calls == [a, b, c, a, b, c, b, c, a, c, a, b]
    assert all(len(t.seconds) == 3 for t in found)


def test_one_slow_round_does_not_decide():
    a, b = Config(16, 1, 1, "csr"), Config(16, 1, 2, "csr")
    times = itertools.cycle([1.0])

    class Hiccup(Clockwork):
        def __call__(self, c):
            t = super().__call__(c) * next(times)
            return t * (100 if len(self.calls) == 1 else 1)

    found = race([(a, call(a)), (b, call(b))], Hiccup({a: 1.0, b: 1.1}), rounds=3, warmup=0)
    assert found[0].config == a


@pytest.mark.parametrize("spec", ["odd", "polynomial"])
def test_what_is_timed_is_compared_with_the_reference(spec):
    spec = specs.polynomial() if spec == "polynomial" else specs.spec_named(spec)
    given = problem(spec, torch.float32, CPU, degree=4, count=24)
    made = with_gradients(Reference().kernel(spec), given)
    config = configs(spec)[0]
    expected = stage2.reference(given)
    check(given, made, expected, config)
    wrong = list(made)
    wrong[1] = wrong[1] * 1.01
    with pytest.raises(CheckFailed) as error:
        check(given, wrong, expected, config)
    assert str(error.value) == (
        f"the Triton configuration {config} gives another gradient by operand 0 than {spec.key} says:"
        " they differ by 0.01 of the largest, tolerance 0.0001"
    )
    wrong = (made[0] * float("nan"), *made[1:])
    with pytest.raises(CheckFailed, match="gives other values than"):
        check(given, wrong, expected, config)


def test_the_problem_has_the_degree_that_was_asked_for():
    given = problem(specs.spec_named("odd"), torch.float64, CPU, degree=6, count=60)
    assert isinstance(given, Problem)
    x, y, w = given.operands
    assert (x.shape[0], y.shape[0], w.shape[0]) == (10, 60, 60)


def test_the_timer_of_a_gpu_needs_one():
    with pytest.raises(
        UsageError, match="stage 2 of the tuner times on a GPU, but the device is cpu"
    ):
        stage2.CudaTimer(CPU)


# Both


def request(spec, **changes):
    given = {"spec": spec, "dtype": "float32", "architecture": "sm_90", "degree": 40.0}
    return TuneRequest(**{**given, **changes})


def test_compiled_once_and_known_then(compiler):
    tuner = tune.TritonTuner(compiler)
    found = tuner.tune(request(scalars()), no_progress)
    assert (found["stage"], found["cached"], found["key"]["degree"]) == (1, False, 32)
    assert found["winner"].startswith("block=16,")
    done = len(compiler.compiled)
    again = tuner.tune(request(scalars()), no_progress)
    assert again["cached"]
    assert {**again, "cached": False} == found
    assert len(compiler.compiled) == done
    tuner.tune(request(scalars(), fresh=True), no_progress)
    assert len(compiler.compiled) == 2 * done


def test_a_run_that_was_killed_goes_on(compiler):
    spec = scalars()
    real = compiler.read
    count = itertools.count()

    def killed(*a):
        if next(count) == 7:
            raise KeyboardInterrupt
        return real(*a)

    stage1.read_facts, keep = killed, stage1.read_facts
    try:
        with pytest.raises(KeyboardInterrupt):
            tune.TritonTuner(compiler).tune(request(spec), no_progress)
    finally:
        stage1.read_facts = keep
    before = len(compiler.compiled)
    found = tune.TritonTuner(compiler).tune(request(spec), no_progress)
    assert found["complete"]
    per_config = 3
    assert len(compiler.compiled) - before == per_config * (len(shallow(spec)) - 7 // per_config)


def test_on_a_gpu_the_best_few_are_timed_and_kept(compiler, monkeypatch):
    """The GPU is this processor, its kernels are the reference, its timer is told the times.

    The fastest of one stage then races against the same with loads of more edges in flight.
    """
    spec = scalars()
    monkeypatch.setattr(tune, "_architecture", lambda name, device: stage_architecture())
    monkeypatch.setattr(tune, "device_name", lambda device: "a fake GPU")
    made = []

    def on_this_processor(spec, dtype, device, degree, count=200_000):
        made.append(count)
        return problem(spec, dtype, CPU, degree, 40)

    monkeypatch.setattr(tune, "problem", on_this_processor)
    pinned = []
    monkeypatch.setattr(tune, "pin", lambda *a: pinned.append(a))

    monkeypatch.setattr(tune, "triton_call", lambda given, c: call_of(spec, given, c))
    best = Config(16, 1, 1, "csr")
    two, three = deeper(spec, best)
    slow = dict.fromkeys(configs(spec), 2.0) | {best: 1.5, two: 1.0, three: 1.2}
    timer = Clockwork(slow)
    tuner = tune.TritonTuner(compiler, lambda device: timer)
    found = tuner.tune(request(spec, device="cuda", best=3, rounds=5), no_progress)
    assert (found["stage"], found["device"]) == (2, "a fake GPU")
    assert found["winner"] == str(two)
    timed = [t["config"] for t in found["timed"]]
    assert timed[:3] == [str(c) for c in (two, three, best)]
    assert len(set(timed)) == len(timed) == 5, "two more from the first race"
    assert pinned == [(spec, torch.float32, two)]
    assert made == [stage2.CHECKED, 200_000]  # the reference never sees the one that is timed
    compiled = {c["config"] for c in found["candidates"]}
    assert compiled == {str(c) for c in (*shallow(spec), two, three)}
    again = tuner.tune(request(spec, device="cuda"), no_progress)
    assert again["cached"]
    assert len(pinned) == 1
    monkeypatch.setattr(
        tune, "device_name", lambda device: "another GPU"
    )  # of the same architecture
    again = tuner.tune(request(spec, device="cuda", best=3, rounds=5), no_progress)
    assert again["device"] == "another GPU"
    assert [t["config"] for t in again["timed"]] == timed, (
        "the same race, and not of the deeper ones"
    )
    assert len(pinned) == 2


@pytest.mark.parametrize("spill", [(3,), (2, 3)])
def test_loads_in_flight_that_spill_take_no_part(compiler, monkeypatch, spill):
    spec, best = scalars(), Config(16, 1, 1, "csr")
    spills = lambda s: {"stack": 8 * (s.constexprs["STAGES"] in spill)}  # noqa: E731
    compiler.facts = lambda s: {"instructions": 10.0 * s.constexprs["BLOCK"], **spills(s)}
    monkeypatch.setattr(tune, "_architecture", lambda name, device: stage_architecture())
    monkeypatch.setattr(tune, "problem", lambda s, t, device, d, n=0: problem(s, t, CPU, d, 40))
    monkeypatch.setattr(tune, "triton_call", lambda given, c: call_of(spec, given, c))
    monkeypatch.setattr(tune, "device_name", lambda device: "a fake GPU")
    monkeypatch.setattr(tune, "pin", lambda *a: None)
    slow = {c: 2.0 - 0.1 * c.stages - 0.5 * (c.variant == "csr") for c in configs(spec)}
    tuner = tune.TritonTuner(compiler, lambda device: Clockwork(slow))
    found = tuner.tune(request(spec, device="cuda", best=2, rounds=1), no_progress)
    left = [c for c in deeper(spec, best) if c.stages not in spill]
    assert found["winner"] == str(left[-1] if left else best)
    rejected = [c["config"] for c in found["candidates"] if c["rejected"]]
    assert rejected == [str(c) for c in deeper(spec, best) if c.stages in spill]


def test_a_compiler_that_dies_of_loads_in_flight_takes_nothing_with_it(
    compiler, monkeypatch, capsys
):
    spec, best = scalars(), Config(16, 1, 1, "csr")
    monkeypatch.setattr(tune, "_architecture", lambda name, device: stage_architecture())
    monkeypatch.setattr(tune, "problem", lambda s, t, device, d, n=0: problem(s, t, CPU, d, 40))
    monkeypatch.setattr(tune, "triton_call", lambda given, c: call_of(spec, given, c))
    monkeypatch.setattr(tune, "device_name", lambda device: "a fake GPU")
    monkeypatch.setattr(tune, "pin", lambda *a: None)

    def dying(*arguments, wanted=None, **options):
        if wanted is not None:
            raise CompilerDied("a process ended")
        return stage1.survey(*arguments, **options)

    monkeypatch.setattr(tune, "survey", dying)
    slow = {c: 2.0 - 0.5 * (c.block == 16) - 0.5 * (c.variant == "csr") for c in configs(spec)}
    tuner = tune.TritonTuner(compiler, lambda device: Clockwork(slow))
    found = tuner.tune(request(spec, device="cuda", best=3, rounds=1), no_progress)
    assert (found["winner"], found["stage"]) == (str(best), 2)
    assert capsys.readouterr().err == (
        f"irprune: {best} of {spec.key} is not tried with more loads in flight: a process ended\n"
    )
    assert tuner.tune(request(spec, device="cuda"), no_progress)["cached"]


def test_a_survey_in_which_nothing_could_be_used_is_done_again(compiler, monkeypatch):
    spec, tuner = scalars(), tune.TritonTuner(compiler)
    compiler.facts = lambda s: {"stack": 8}
    with pytest.raises(TuneError, match="no configuration of"):
        tuner.tune(request(spec, architecture="sm_90"), no_progress)
    compiler.facts = lambda s: {}
    found = tuner.tune(request(spec, architecture="sm_90"), no_progress)
    assert not any(c["rejected"] for c in found["candidates"])


def test_nothing_is_tuned_in_the_interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert tune.TritonTuner().declines(request(scalars())) == (
        "in Triton's interpreter (TRITON_INTERPRET=1) nothing is compiled"
    )


def call_of(spec, given, config):
    def run():
        return with_gradients(Reference().kernel(spec), given)

    run.config = config
    return run


def test_nothing_stays_pinned_after_a_configuration_that_is_wrong(compiler, monkeypatch):
    spec = scalars()
    monkeypatch.setattr(tune, "_architecture", lambda name, device: stage_architecture())
    monkeypatch.setattr(tune, "problem", lambda s, t, device, d, n=0: problem(s, t, CPU, d, 40))

    def wrong_call(given, config):
        def run():
            pin(spec, torch.float32, config)
            return tuple(2 * t for t in with_gradients(Reference().kernel(spec), given))

        return run

    monkeypatch.setattr(tune, "triton_call", wrong_call)
    with pytest.raises(CheckFailed, match="gives other values than"):
        tune.TritonTuner(compiler).tune(request(spec, device="cuda"), no_progress)
    assert not pinned(spec, torch.float32)


def test_a_winner_alone_leaves_nothing_to_choose_from(compiler, monkeypatch, tmp_path):
    """A table that comes with irprune holds one configuration: good to run, not to time."""
    spec, table = scalars(), tmp_path / "table.json"
    tuner = tune.TritonTuner(compiler)
    found = tuner.tune(request(spec), no_progress)
    tuner.write_table(str(table), [found], winners=True)
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path / "another"))
    monkeypatch.setenv(cache.TABLES, str(table))
    before = len(compiler.compiled)
    again = tuner.tune(request(spec), no_progress)
    assert not again["cached"]
    assert len(again["candidates"]) == len(shallow(spec))
    assert len(compiler.compiled) == 2 * before
    assert tuner.tune(request(spec), no_progress)["cached"]


def test_what_is_tuned_for_a_polynomial_is_found_where_it_runs(compiler):
    """It has no edges, whatever the model's number of neighbours is."""
    spec = specs.polynomial()
    found = tune.TritonTuner(compiler).tune(request(spec, degree=40.0), no_progress)
    assert found["key"]["degree"] == 1
    key = key_of(spec, torch.float32, stage_architecture(), 1.0)
    assert str(cache.load(key).winner) == found["winner"]


def stage_architecture():
    from irprune.kernels.tuner.architecture import architecture_named

    return architecture_named("sm_90")


def test_there_are_no_kernels_for_tables():
    said = tuner_named("triton").declines(request(TableSpec(3, 3, ((0.0, 1.0, 4),))))
    assert said == "there are no Triton kernels for a TableSpec"
    with pytest.raises(UsageError, match="no tuner is called 'cutlass'; known are triton"):
        tuner_named("cutlass")


# Problems


@pytest.mark.parametrize("name", SHAPES)
def test_problems_by_name(name):
    whole, half = problem_named(name), problem_named(f"{name}@0.5:odd")
    assert all(s.mul % 32 == 0 for s in whole.in1)
    assert [h.mul for h in half.in1] == [s.mul // 2 - 1 for s in whole.in1]
    assert len(whole.paths) == len(half.paths)


def test_the_paths_of_mace_have_natural_parity():
    assert {(s.l, s.p) for s in problem_named("mace-medium").out} == {
        (0, 1), (1, -1), (2, 1), (3, -1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gemm", "no kernel problem is called 'gemm'; known are sevennet-0, "),
        ("mace-small@2", "'mace-small@2' keeps 2 of the channels; expected a share in (0, 1]"),
        ("mace-small@1.2.3", "'mace-small@1.2.3' keeps 1.2.3 of the channels"),
    ],
)
def test_problems_that_are_not_known(name, message):
    with pytest.raises(UsageError) as error:
        problem_named(name)
    assert str(error.value).startswith(message)


# Commands


@pytest.fixture
def command(compiler, monkeypatch, capsys):
    monkeypatch.setattr("irprune.tuning.tuners", lambda: {"triton": tune.TritonTuner(compiler)})

    def run(*args, code=0):
        alone = ["--jobs", "1"] if args[0] == "tune" else []  # the compiler here is a stand-in
        assert cli.run([*args, *alone]) == code
        return capsys.readouterr()

    return run


def test_tune_a_problem(command, tmp_path):
    table = tmp_path / "table.json"
    args = ["tune", "--problem", "mace-small@0.1:odd", "--arch", "sm_90", "--table", str(table)]
    found = json.loads(command(*args, "--json").out)
    (row,) = found["results"]
    assert (row["architecture"], row["stage"], row["cached"]) == ("sm_90", 1, False)
    assert row["tried"] == len(row["entry"]["candidates"])
    assert row["winner"] == row["entry"]["winner"]
    assert found["declined"] == {}
    assert len(cache.read_table(table)) == 1
    assert command(*args, "--winners").out
    (alone,) = cache.read_table(table).values()
    assert [str(c.config) for c in alone.candidates] == [row["winner"]]
    said = command(*args[:-2], "--winners", code=2).err
    assert "--winners says what a table holds: give --table FILE too" in said
    shown = command(*args).out
    assert "edges per atom, by compilation (known)" in shown
    assert "compilation only: nothing was timed" in shown


@pytest.mark.usefixtures("unscripted")
def test_a_kernel_that_no_configuration_fits_is_declined(command, compiler):
    """The others are tuned all the same; where there are none, it is an error."""
    compiler.facts = lambda s: {"stack": 8 * ("weights + line * 252" in s.text)}
    names = ["mace-small@0.1:odd", "mace-small@0.5:odd"]
    given = [a for n in names for a in ("--problem", n)]
    payload = json.loads(command("tune", *given, "--arch", "sm_90", "--json").out)
    assert [r["name"] for r in payload["results"]] == names[:1]
    assert list(payload["declined"]) == names[1:]
    key = problem_named(names[1]).key
    reason = f"no configuration of {key} can be used on sm_90; the first, block=16,warps=1,stages=1"
    assert payload["declined"][names[1]].startswith(reason)
    said = command("tune", "--problem", names[1], "--arch", "sm_90", code=2).err
    assert f"error: there is nothing to tune: {reason}" in said


def test_tune_a_model(command, tmp_path):
    import irprune
    from irprune.graphfile import save
    from tests.passes.toy import graph

    path = tmp_path / "model.irp"
    save(irprune.run("fuse-conv,fuse-linear", graph()), path)
    found = json.loads(command("tune", str(path), "--arch", "sm_80", "--json").out)
    assert [(r["name"], r["dtype"]) for r in found["results"]] == [("tp_fused", "float64")]
    assert set(found["declined"].values()) == {"there are no Triton kernels for a LinearSpec"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--problem", "mace-small"], "no GPU is used here: name what to compile for, such as"),
        (["--arch", "sm_90"], "name a MODEL, or a kernel with --problem"),
        (["--arch", "sm_1", "--problem", "mace-small"], "no GPU architecture is called 'sm_1'"),
    ],
)
def test_tune_refuses(command, args, message):
    assert f"error: {message}" in command("tune", *args, code=2).err
