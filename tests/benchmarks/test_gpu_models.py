"""benchmarks/gpu: whole models where memory ends, sizes of crystals, what is compared."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

import irprune
from benchmarks.gpu import captured as recording
from benchmarks.gpu import models, run, stages, ways
from benchmarks.gpu.captured import captured
from benchmarks.gpu.failures import DeviceLost
from benchmarks.gpu.sizes import near
from tests.benchmarks.fakegpu import fake_gpu

pytestmark = pytest.mark.usefixtures("unscripted")


@pytest.fixture
def device():
    return fake_gpu()


@pytest.mark.parametrize("wanted", [64, 512, 4096, 32768])
@pytest.mark.parametrize("unit", [
    bulk("Cu", cubic=True), bulk("Si"),
    Atoms("CuTi5", cell=[3, 4, 11], pbc=True, positions=np.arange(18).reshape(6, 3)),
])  # fmt: skip
def test_sizes_are_those_asked_for(unit, wanted):
    found = near(unit, wanted)
    assert len(found) == pytest.approx(wanted, rel=0.16 if wanted == 64 else 0.03)
    if wanted > 64:
        assert max(found.cell.lengths()) < 1.5 * min(found.cell.lengths())


def test_only_periodic_axes_are_repeated():
    slab = Atoms("Cu", cell=[2, 2, 0], pbc=[True, True, False])
    assert near(slab, 100).cell.lengths() == pytest.approx([20, 20, 0])
    assert len(near(Atoms("Cu2"), 100)) == 2


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    import irprune
    from irprune.graphfile import save
    from tests.passes.toy import graph

    path = tmp_path_factory.mktemp("toy") / "fast.irp"
    save(irprune.run("fuse-conv", graph()), path)
    return str(path)


@pytest.fixture(scope="module")
def original(file, tmp_path_factory):
    from irprune.graphfile import save
    from tests.passes.toy import graph

    path = tmp_path_factory.mktemp("toy") / "original.irp"
    save(graph(), path)
    return str(path)


@pytest.fixture
def toy(file, monkeypatch):
    """A graph file, and the reference in the place of all other kernels."""
    real = models.bound
    monkeypatch.setattr(models, "bound", lambda way: real(replace(way, backend="reference")))
    return file


def test_a_whole_model(file, original, device, monkeypatch):
    real = models.bound
    # Triton's place is taken by cuEquivariance, which needs neither a GPU nor a compiler
    there = {"triton": "cuequivariance"}
    monkeypatch.setattr(
        models, "bound", lambda w: real(replace(w, backend=there.get(w.backend, w.backend)))
    )
    row = models.measure(file, 8, device, rounds=2, original=original)
    assert row["ok"]
    assert row["compared_with"] == "original"
    assert list(row["errors"]) == ["reference", "cuequivariance", "triton"]
    assert all(set(e) == {"energy", "forces", "stress"} for e in row["errors"].values())
    assert 0 < row["errors"]["triton"]["forces"] < 1e-10, "the toy is in float64"
    assert row["served"] == 1
    assert list(row["configs"].values()) == ["block=16,warps=1,stages=1,variant=csr"]
    assert (row["layout"], row["conversions"]) == ("ir_mul", 1)  # the rows of its only kernel
    assert row["over_triton"] == dict.fromkeys(["original", "reference", "cuequivariance"], 1.0)
    assert set(row["dtypes"].values()) == {"float64"}
    assert 6 <= row["atoms"] <= 10


def test_ways_of_a_gpu(file, monkeypatch):
    """What is captured is what the Triton kernels run; pairs are not counted there."""
    graph = irprune.load(file)
    shared = irprune.run("share-pairs", graph)
    prepared = irprune.run(ways.PREPARED.format(layout="ir_mul"), shared)
    assert "complete=True" in str(prepared)
    assert "complete" not in str(shared)
    assert ways.serves("cuequivariance", prepared, torch.device("cpu"))
    assert not ways.serves("cuequivariance", irprune.load(file), torch.device("meta"))
    assert not ways.serves("openequivariance", prepared, torch.device("cpu"))
    monkeypatch.setattr(ways, "serves", lambda *a: True)
    found = ways.ways(shared, prepared, None, torch.device("cuda"))
    by_name = {w.name: w for w in found}
    assert list(by_name) == ["reference", "cuequivariance", "triton"]
    assert by_name["reference"].graph is shared
    assert by_name["cuequivariance"].graph is by_name["triton"].graph is prepared


def test_a_call_is_recorded_after_it_was_warm(monkeypatch):
    """With a stand-in for CUDA graphs: a replay does not call again."""
    from contextlib import contextmanager

    calls, log = [], []

    class Stream:
        def __init__(self, place=None):
            pass

        def wait_stream(self, other):
            log.append("wait")

    class Graph:
        def replay(self):
            log.append("replay")

    @contextmanager
    def around(label):
        log.append(f"{label} begins")
        yield
        log.append(f"{label} ends")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    streams = []
    monkeypatch.setattr(torch.cuda, "stream", lambda s: streams.append(s) or around("side"))
    monkeypatch.setattr(
        torch.cuda, "graph", lambda g, stream: streams.append(stream) or around("graph")
    )
    call = lambda: calls.append(list(log)) or len(calls)  # noqa: E731
    replay = captured(call, torch.device("cuda"))
    assert (replay(), replay()) == (4, 4)
    warm, recorded = streams
    assert recorded is warm
    assert len(calls) == 4
    assert log == [
        "wait", "side begins", "side ends", "wait", "graph begins", "graph ends", "replay", "replay"
    ]  # fmt: skip
    assert calls[-1][-1] == "graph begins"


@pytest.mark.parametrize("fails", [None, "capture", "device"])
def test_a_model_as_a_cuda_graph(toy, device, monkeypatch, tmp_path, fails):
    """With a stand-in that replays by calling: what it gives is compared; what fails is told."""
    replayed = []

    def capture(call, place):
        if fails == "capture":
            raise RuntimeError("operation not permitted when stream is capturing")
        if fails == "device":
            raise DeviceLost("captures_underway")
        return lambda: replayed.append(1) or call()

    real = recording.bound
    monkeypatch.setattr(recording, "bound", lambda way: real(replace(way, backend="reference")))
    monkeypatch.setattr(recording, "captured", capture)
    monkeypatch.setattr("benchmarks.gpu.models.SIZES", (6, 12))
    args = ["-o", str(tmp_path), "--stages", "captured", "--models", toy]
    assert run.main(args, lambda: device) == int(fails is not None)
    found = json.loads((tmp_path / "captured.json").read_text())
    if fails == "device":
        assert (found["lost"], len(found["not_reached"])) == ("captures_underway", 1)
        return
    assert len(found["results"]) == 2
    for row in found["results"]:
        assert row["ok"]
        if fails:
            assert list(row["failed"]) == ["triton captured"]
            assert row["errors"] is None
        else:
            assert row["errors"] == {"energy": 0.0, "forces": 0.0, "stress": 0.0}
            assert row["triton_over_captured"] == 1.0
            assert replayed


def test_the_reference_without_memory_leaves_triton_its_times(toy, device, monkeypatch):
    real = models.numbers_of
    calls = []

    def numbers_of(call):
        calls.append(call)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(call)

    monkeypatch.setattr(models, "numbers_of", numbers_of)
    row = models.measure(toy, 8, device, rounds=2)
    assert row["failed"] == {"reference": "OutOfMemoryError: CUDA out of memory"}
    assert row["seconds"] == {"cuequivariance": [0.5, 0.5], "triton": [0.5, 0.5]}
    assert (row["compared_with"], list(row["errors"])) == ("cuequivariance", ["triton"])
    assert (row["ok"], row["over_triton"]) == (True, {"cuequivariance": 1.0})


@pytest.mark.parametrize("name", ["energy", "stress"])
def test_each_quantity_is_compared(toy, device, monkeypatch, name):
    real = models.numbers_of
    calls = []

    def numbers_of(call):
        calls.append(call)
        made = real(call)
        return made if len(calls) < 3 else {**made, name: made[name] * 1.01}

    monkeypatch.setattr(models, "numbers_of", numbers_of)
    row = models.measure(toy, 8, device, rounds=1)
    assert not row["ok"]
    wrong = {
        w: [k for k, e in found.items() if e > models.TOLERANCES[k]]
        for w, found in row["errors"].items()
    }
    assert wrong == {"cuequivariance": [], "triton": [name]}


def test_a_model_that_was_never_compared_is_an_error(device, tmp_path, monkeypatch, capsys):
    (tmp_path / "fast.irp").touch()
    row = {"model": str(tmp_path / "fast.irp"), "ok": True, "errors": {}, "failed": {}}
    monkeypatch.setattr(models, "measure", lambda *a, **k: dict(row))
    args = ["-o", str(tmp_path), "--stages", "models", "--models", row["model"]]
    assert run.main(args, lambda: device) == 1
    said = capsys.readouterr().err
    assert "fast.irp: nothing was compared, at no size did it run in two ways" in said
    row["errors"] = {"triton": {"forces": 0.0}}
    assert run.main(args, lambda: device) == 0
    found = json.loads((tmp_path / "models.json").read_text())
    assert [r["wanted_atoms"] for r in found["results"]] == list(models.SIZES)
    assert not stages.bad(found)


def test_what_the_models_stage_needs_is_asked_for_first(device, tmp_path, capsys, monkeypatch):
    found = []
    monkeypatch.setattr(stages, "time_kernels", lambda *a: found.append(1) or {"results": []})

    def no_device():
        raise AssertionError("nothing may have begun")

    missing = ["-o", str(tmp_path), "--models", "missing.irp"]
    assert run.main(missing, no_device) == 2
    assert capsys.readouterr().err == (
        "--models names what is no file: missing.irp; irprune optimize writes them\n"
    )
    (tmp_path / "fast.irp").touch()
    there = str(tmp_path / "fast.irp")
    two = ["-o", str(tmp_path), "--models", there, "--originals", there, there]
    assert run.main(two, no_device) == 2
    assert capsys.readouterr().err == (
        "--originals names 2 files for 1 --models: expected one for each, in their order\n"
    )
    assert run.main(["-o", str(tmp_path), "--stages", "models"], no_device) == 2
    said = "no --models were given: no whole model is timed\n"
    assert capsys.readouterr().err == said
    assert run.main(["-o", str(tmp_path), "--stages", "kernels", "models"], lambda: device) == 0
    assert capsys.readouterr().err == said
    assert found
    assert not (tmp_path / "models.json").exists()


def test_pins_of_a_stage_do_not_reach_the_next(device, tmp_path, monkeypatch):
    from irprune.kernels.triton import config

    seen = []

    def stage(*_):
        seen.append(dict(config._PINNED))
        config._PINNED["a spec", torch.float32] = config.Config(16, 1, 1, "atomic")
        return {"results": [{"ok": True}], "not_reached": []}

    for name in ("check", "time_kernels", "time_models", "time_captured"):
        monkeypatch.setattr(stages, name, stage)
    (tmp_path / "fast.irp").touch()
    args = ["-o", str(tmp_path), "--models", str(tmp_path / "fast.irp")]
    assert run.main(args, lambda: device) == 0
    assert seen == [{}, {}, {}, {}]
    assert ("a spec", torch.float32) not in config._PINNED
