"""benchmarks/gpu: whole models where memory ends, sizes of crystals, what is compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from benchmarks.gpu import models, run, stages
from benchmarks.gpu.device import Device
from benchmarks.gpu.sizes import near

pytestmark = pytest.mark.usefixtures("unscripted")


def told(call):
    call()
    return 0.5


@pytest.fixture
def device():
    return Device("a fake GPU", torch.device("cpu"), told, 1e9)


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
