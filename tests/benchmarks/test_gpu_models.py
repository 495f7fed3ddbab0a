"""benchmarks/gpu: whole models where memory ends, sizes of crystals, what is compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from benchmarks.gpu import models, run, stages
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


@pytest.fixture
def toy(file, monkeypatch):
    """A graph file, and the reference in the place of Triton."""
    real = models.bound
    monkeypatch.setattr(models, "bound", lambda g, name: real(g, "reference"))
    return file


def test_a_whole_model(file, device, monkeypatch):
    real = models.bound
    # Triton's place is taken by cuEquivariance, which needs neither a GPU nor a compiler
    there = {"reference": "reference", "triton": "cuequivariance"}
    monkeypatch.setattr(models, "bound", lambda g, name: real(g, there[name]))
    row = models.measure(file, 8, device, rounds=2)
    assert row["ok"]
    assert set(row["errors"]) == {"energy", "forces", "stress"}
    assert row["served"] == 1
    assert list(row["configs"].values()) == ["block=16,warps=1,stages=1,variant=csr"]
    assert (row["layout"], row["conversions"]) == ("ir_mul", 1)  # the rows of its only kernel
    assert row["reference_over_triton"] == 1.0
    assert 6 <= row["atoms"] <= 10


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
    assert row["seconds"] == {"triton": [0.5, 0.5]}
    assert (row["errors"], row["ok"], row["reference_over_triton"]) == (None, True, None)


@pytest.mark.parametrize("name", ["energy", "stress"])
def test_each_quantity_is_compared(toy, device, monkeypatch, name):
    real = models.numbers_of
    calls = []

    def numbers_of(call):
        calls.append(call)
        made = real(call)
        return made if len(calls) == 1 else {**made, name: made[name] * 1.01}

    monkeypatch.setattr(models, "numbers_of", numbers_of)
    row = models.measure(toy, 8, device, rounds=1)
    assert not row["ok"]
    assert [k for k, e in row["errors"].items() if e > models.TOLERANCES[k]] == [name]


def test_a_model_that_was_never_compared_is_an_error(device, tmp_path, monkeypatch, capsys):
    (tmp_path / "fast.irp").touch()
    row = {"model": str(tmp_path / "fast.irp"), "ok": True, "errors": None, "failed": {}}
    monkeypatch.setattr(models, "measure", lambda *a, **k: dict(row))
    args = ["-o", str(tmp_path), "--stages", "models", "--models", row["model"]]
    assert run.main(args, lambda: device) == 1
    said = capsys.readouterr().err
    assert "fast.irp: nothing was compared, at no size did both backends run" in said
    row["errors"] = {"forces": 0.0}
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

    for name in ("check", "time_kernels", "time_models"):
        monkeypatch.setattr(stages, name, stage)
    (tmp_path / "fast.irp").touch()
    args = ["-o", str(tmp_path), "--models", str(tmp_path / "fast.irp")]
    assert run.main(args, lambda: device) == 0
    assert seen == [{}, {}, {}]
    assert ("a spec", torch.float32) not in config._PINNED
