"""benchmarks/gpu: timing, budget and stages; this processor is the GPU, and the timer is told."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.gpu import kernels, models, run, stages
from benchmarks.gpu.correctness import directions
from benchmarks.gpu.device import Budget, NoGpu, gpu, in_turn
from benchmarks.gpu.shapes import LAYERS, spec_of
from irprune.backends import kernel_for
from irprune.kernels.tuner.stage2 import problem
from tests.benchmarks.fakegpu import fake_gpu

pytestmark = pytest.mark.usefixtures("unscripted")

CPU = torch.device("cpu")
SMALL = next(layer for layer in LAYERS if layer.name == "mace-small")


@pytest.fixture
def device():
    return fake_gpu()


def test_without_a_gpu_it_ends_with_an_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NoGpu):
        gpu()
    assert run.main(["-o", str(tmp_path), "--stages", "kernels"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("benchmarks.gpu.run needs a GPU, and torch finds none; --device cpu")
    assert list(tmp_path.iterdir()) == []
    assert run.main(["-o", str(tmp_path), "--device", "cpu"]) == 2
    assert "--device cpu times nothing: add --stages correctness" in capsys.readouterr().err


def test_calls_take_turns():
    seen = []
    calls = {n: lambda n=n: seen.append(n) for n in "abc"}

    def timer(call):
        call()
        return float(len(seen))

    found = in_turn(calls, timer, rounds=3, warmup=1)
    assert "".join(seen) == "abc" + "abc" + "bca" + "cab"
    assert found["a"] == [4.0, 9.0, 11.0]


def test_a_stage_ends_at_its_share_of_the_time():
    now = [0.0]
    budget = Budget(100.0, lambda: now[0])
    first, second = budget.until(0.35), budget.until(0.8)
    assert first()
    now[0] = 34.0
    assert first()
    now[0] = 36.0
    assert not first()
    assert second()
    now[0] = 81.0
    assert not second()
    assert budget.left() == 19.0


def test_whole_models_and_halves_come_first():
    keeps = [c[1] for c in stages.in_order(["mace-small", "mace-large"], (1.0, 0.75, 0.5, 0.25))]
    assert keeps[:6] == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    assert len(keeps) == 14


@pytest.fixture
def without_compiler(monkeypatch):
    """Backends that need no compilation, which takes longer than all else here."""
    real = kernels.serving

    def serving(*args):
        names, left = real(*args)
        return [n for n in names if n == "reference"], left

    monkeypatch.setattr(kernels, "serving", serving)


@pytest.mark.usefixtures("without_compiler")
def test_a_convolution_by_all_that_serve(device):
    row = kernels.measure(SMALL, 0.25, "odd", device, count=80, rounds=3, small=80)
    assert set(row["errors"]) >= {"reference", "e3nn"}
    assert max(row["errors"].values()) < row["tolerance"]
    assert row["wrong"] == []
    assert row["left"]["triton"].startswith("runs on GPUs")
    assert row["ns_per_row"]["forward"]["e3nn"] == pytest.approx(1e9 * 0.5 / row["rows"])
    assert row["best_other_over_triton"]["forward"] == {}
    share = row["share_of_bandwidth"]["e3nn"]
    assert share == pytest.approx(row["least_ns_per_row"] * row["rows"] / 0.5e9)
    assert set(row["seconds"]) == set(kernels.MODES)


def test_least_bytes_are_those_of_all_operands_once():
    spec = spec_of(SMALL, 0.25, "odd")
    given = problem(spec, torch.float32, CPU, 4, 12)
    nodes, edges = 3, 12
    numbers = nodes * (spec.dims[0] + spec.dims[2]) + edges * (spec.dims[1] + spec.n_weights)
    assert kernels.least_bytes(given) == 4 * numbers + 8 * (6 * edges + 2 * (nodes + 1))


@pytest.mark.usefixtures("without_compiler")
def test_a_kernel_that_is_wrong_is_not_timed(device, monkeypatch):
    def wrong(layer, keep, shape, like):
        kernel = kernel_for(spec_of(layer, keep, shape), like, "reference")
        return lambda *a: kernel(*a) * 1.01

    monkeypatch.setattr(kernels, "e3nn_kernel", wrong)
    row = kernels.measure(SMALL, 0.25, "odd", device, count=80, rounds=1, small=80)
    assert row["wrong"] == ["e3nn"]
    assert "e3nn" not in row["ns_per_row"]["forward"]


def test_numbers_to_derive_along_are_not_made_while_the_clock_runs():
    """Only kernels are: the calls that are timed make nothing by cosines or by counting."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        names: set[str] = set()

        def __torch_dispatch__(self, f, types, args=(), kwargs=None):
            self.names.add(f._schema.name)
            return f(*args, **(kwargs or {}))

    spec = spec_of(SMALL, 0.25, "odd")
    given = problem(spec, torch.float32, CPU, 4, 12)
    along = directions(spec, given.operands)
    calls = kernels.calls_of(kernel_for(spec, given.operands[0], "reference"), given, along)
    with Seen() as seen:
        for call in calls.values():
            call()
    assert "aten::bmm" in seen.names
    assert not seen.names & {"aten::cos", "aten::arange", "aten::linspace"}


def test_ours_against_the_best_other(device):
    spec = spec_of(SMALL, 0.25, "odd")
    given = problem(spec, torch.float32, CPU, 4, 12)
    times = {
        "forward": {
            "triton": [1.0, 2.0, 3.0], "triton ir_mul": [1.0] * 3,
            "e3nn": [9.0] * 3, "cuequivariance": [4.0] * 3, "cuequivariance ir_mul": [3.0] * 3,
        }
    }  # fmt: skip
    found = kernels.figures(given, times, 1e9)
    assert found["best_other_over_triton"] == {"forward": {"triton": 1.5, "triton ir_mul": 3.0}}


def test_the_stages_write_what_there_was_time_for(device, tmp_path, monkeypatch, capsys):
    ticks = iter(range(1000))
    rows = {"ok": True, "errors": {"e3nn": 0.0}}
    monkeypatch.setattr(stages, "check", lambda given, left: {"results": [rows], "not_reached": []})
    monkeypatch.setattr(kernels, "measure", lambda *a, **k: {**rows, "wrong": []})
    monkeypatch.setattr(models, "measure", lambda *a, **k: rows)
    args = ["-o", str(tmp_path), "--layers", "mace-small", "--minutes", "0.1"]
    model = str(tmp_path / "fast.irp")
    (tmp_path / "fast.irp").touch()
    args += ["--models", model]
    assert run.main(args, lambda: device, lambda: float(next(ticks))) == 0
    found = json.loads((tmp_path / "kernels.json").read_text())
    assert found["device"] == "a fake GPU"
    assert found["date"]
    assert "triton" in found["gpu_versions"]
    assert len(found["results"]) + len(found["not_reached"]) == 7
    assert found["not_reached"]
    assert json.loads((tmp_path / "models.json").read_text())["not_reached"] == [
        ["fast.irp", n] for n in models.SIZES
    ]


def test_nothing_is_timed_after_a_wrong_kernel(device, tmp_path, monkeypatch):
    bad = {"results": [{"ok": False}], "not_reached": []}
    monkeypatch.setattr(stages, "check", lambda given, left: bad)
    assert run.main(["-o", str(tmp_path)], lambda: device) == 1
    assert list(tmp_path.iterdir()) == []
