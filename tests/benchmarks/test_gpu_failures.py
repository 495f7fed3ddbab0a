"""benchmarks/gpu: what raises in one case is written down, and the others are measured."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.gpu import correctness, failures, kernels, run, stages
from benchmarks.gpu.device import in_turn
from benchmarks.gpu.failures import DeviceLost, attempt, serious
from benchmarks.gpu.shapes import LAYERS, spec_of
from irprune.backends import kernel_for
from tests.benchmarks.fakegpu import fake_gpu, told

pytestmark = pytest.mark.usefixtures("unscripted")

SMALL = next(layer for layer in LAYERS if layer.name == "mace-small")
LACK = "CUDA out of memory. Tried to allocate 9 GiB\nlong advice"


@pytest.fixture
def device():
    return fake_gpu()


def lack(*_, **__):
    raise torch.OutOfMemoryError(LACK)


def read(path):
    return json.loads(path.read_text())


def test_an_attempt():
    failed = {}
    assert attempt(failed, "a", lambda: 3) == 3
    assert attempt(failed, "b", lack) is None
    assert failed == {"b": "OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB"}
    with pytest.raises(KeyboardInterrupt):
        attempt(failed, "c", lambda: (_ for _ in ()).throw(KeyboardInterrupt))


def test_what_a_failed_call_held_is_given_back():
    import weakref

    held = []

    def call():
        mine = torch.zeros(3)
        held.append(weakref.ref(mine))
        lack()

    attempt({}, "a", call)
    assert held[0]() is None


def test_a_lack_of_memory_elsewhere_is_a_result():
    assert not serious({})
    assert not serious({"e3nn forward": "OutOfMemoryError: x"})
    assert serious({"triton forward": "OutOfMemoryError: x"})
    assert serious({"e3nn forward": "ValueError: x"})


def test_a_call_that_raises_leaves_the_turns():
    count = {"a": 0, "b": 0}

    def call(name):
        count[name] += 1
        if name == "b" and count["b"] == 3:
            lack()

    failed = {}
    calls = {n: lambda n=n: call(n) for n in count}
    found = in_turn(calls, told, rounds=4, warmup=1, failed=failed)
    assert found == {"a": [0.5] * 4}
    assert count == {"a": 5, "b": 3}
    assert list(failed) == ["b"]


def test_a_backend_without_memory_leaves_the_others_their_times(device, monkeypatch):
    real = kernels.serving
    monkeypatch.setattr(kernels, "serving", lambda *a: (["reference"], real(*a)[1]))
    reference = kernel_for(spec_of(SMALL, 0.25, "odd"), torch.zeros(1), "reference")

    def other(layer, keep, shape, like):
        def kernel(x, y, w, edges):
            return lack() if torch.is_grad_enabled() and len(x) > 2 else reference(x, y, w, edges)

        return kernel

    monkeypatch.setattr(kernels, "e3nn_kernel", other)
    row = kernels.measure(SMALL, 0.25, "odd", device, count=200, rounds=2, small=80)
    assert set(row["ns_per_row"]["forward"]) == {"reference", "e3nn"}
    assert set(row["ns_per_row"]["backward"]) == {"reference"}
    assert {k: v[:16] for k, v in row["failed"].items()} == {
        "e3nn backward": "OutOfMemoryError", "e3nn double backward": "OutOfMemoryError"
    }  # fmt: skip
    assert row["wrong"] == []


def test_a_case_that_raises_does_not_end_the_stage(device, tmp_path, monkeypatch, capsys):
    seen = []

    def measure(*a, **k):
        seen.append(a)
        if len(seen) == 2:
            raise ValueError("no such tile")
        return {"errors": {}, "wrong": []}

    monkeypatch.setattr(kernels, "measure", measure)
    args = ["-o", str(tmp_path), "--layers", "mace-small", "--stages", "kernels"]
    assert run.main(args, lambda: device) == 1
    rows = read(tmp_path / "kernels.json")["results"]
    assert len(rows) == 7
    assert rows[1] == {"layer": "mace-small", "keep": 0.5, "shape": "aligned",
                       "failed": {"case": "ValueError: no such tile"}}  # fmt: skip
    assert (
        "mace-small 0.5 aligned: FAILED; case: ValueError: no such tile" in capsys.readouterr().err
    )


def test_the_check_writes_after_each_case(device, tmp_path, monkeypatch):
    before = []

    def compare(spec, config, given):
        path = tmp_path / "correctness.json"
        before.append(len(read(path)["results"]) if path.exists() else 0)
        if len(before) == 2:
            lack()
        return {"ok": True, "errors": {"value": 0.0}}

    monkeypatch.setattr(correctness, "compare", compare)
    args = ["-o", str(tmp_path), "--device", "cpu", "--stages", "correctness", "--layers",
            "mace-small", "--keep", "0.25", "--dtypes", "float32", "--edges", "8"]  # fmt: skip
    assert run.main(args) == 1
    assert before == [0, 1, 2, 3]
    found = read(tmp_path / "correctness.json")["results"]
    assert [r.get("ok") for r in found] == [True, None, True, True]
    assert found[1]["failed"]["case"].startswith("OutOfMemoryError")


def test_a_gpu_that_is_lost_ends_the_run_with_what_there_is(device, tmp_path, monkeypatch):
    def broken():
        raise DeviceLost("AcceleratorError: an illegal memory access was encountered")

    monkeypatch.setattr(failures, "free", broken)
    monkeypatch.setattr(kernels, "measure", lack)
    args = ["-o", str(tmp_path), "--layers", "mace-small", "--stages", "kernels", "models"]
    assert run.main(args, lambda: device) == 1
    found = read(tmp_path / "kernels.json")
    assert found["lost"] == "AcceleratorError: an illegal memory access was encountered"
    assert (len(found["results"]), len(found["not_reached"])) == (1, 6)
    assert not (tmp_path / "models.json").exists()
    assert stages.bad(found)
