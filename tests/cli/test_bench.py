"""``irprune bench``: errors first, then ratios; kept results are not measured again."""

from __future__ import annotations

import json

import pytest
import torch
from e3nn import o3
from torch import nn

import irprune
from irprune import api, backends
from irprune.backends import Backend, Reference
from irprune.cli import bench as module
from irprune.cli import main as cli
from irprune.errors import UsageError
from irprune.graphfile import save
from irprune.profile.kernels import (
    KernelTimes,
    compare_backends,
    operands,
    serving,
    values_and_gradients,
)
from irprune.specs.linear import LinearSpec
from irprune.specs.table import TableSpec
from tests.kernels import specs
from tests.passes.toy import graph

CPU = torch.device("cpu")
EVERYTHING = "fuse-conv,fuse-linear"
pytestmark = pytest.mark.usefixtures("unscripted")
SMALL = ["--rows", "24", "--degree", "4", "--rounds", "2"]


class Wrong(Backend):
    """The reference, and a little more."""

    name = "wrong"
    rank = 20

    def supports(self, spec, device, dtype):
        return None

    def kernel(self, spec):
        kernel = Reference().kernel(spec)
        return lambda *a: kernel(*a) * 1.001


@pytest.fixture
def run(capsys):
    def call(*args, code=0):
        assert cli.run(["bench", *args]) == code
        return capsys.readouterr()

    return call


SPECS = {
    "convolution": specs.spec_named("odd"),
    "polynomial": specs.polynomial(),
    "table": TableSpec(3, 3, ((0.0, 1.0, 4),), 2),
    "linear": LinearSpec("3x0e+2x1o", "4x1o", ((1, 1, 0, 0),)),
}


@pytest.mark.parametrize("name", SPECS)
def test_operands_fit_every_kind_of_spec(name):
    given = operands(SPECS[name], 24, 4, torch.float32, CPU)
    made = values_and_gradients(Reference().kernel(SPECS[name]), given)
    exact = values_and_gradients(Reference().kernel(SPECS[name]), given.double())
    assert len(made) == 1 + len(given.free)
    for a, b in zip(made, exact, strict=True):
        assert b.dtype == torch.float64
        assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-4)


def test_ratios_are_of_times_in_one_round():
    seconds = ((2.0, 1.0), (4.0, 1.0), (6.0, 2.0))
    found = KernelTimes(("cpu", "reference"), (0.0, 0.0), seconds, seconds, 8, 1e-4)
    assert found.ratios(seconds)["cpu"] == {"median": 3.0, "q1": 2.5, "q3": 3.5}
    assert found.ratios(seconds[:1])["cpu"] == {"median": 2.0, "q1": 2.0, "q3": 2.0}


def test_every_call_is_timed_in_turn_with_a_fake_clock():
    ticks = iter(range(10_000))
    spec = SPECS["convolution"]
    given = operands(spec, 12, 4, torch.float64, CPU)
    found = compare_backends(spec, given, ["reference"], 3, lambda: float(next(ticks)))
    assert found.forward == ((1.0,),) * 3
    assert found.both == ((1.0,),) * 3
    assert found.errors == (0.0,)


def test_what_is_only_there_to_be_compared_with_is_named_with_the_reason():
    names, left = serving(SPECS["convolution"], CPU, torch.float32)
    assert "reference" in names
    assert "triton" in left
    if "cuequivariance" not in left:
        pytest.fail("cuequivariance ranks below the reference on the CPU")
    names, _ = serving(SPECS["convolution"], CPU, torch.float32, ["reference"])
    assert names == ["reference"]
    with pytest.raises(UsageError, match="the backend that was asked for declines: triton"):
        serving(SPECS["convolution"], CPU, torch.float32, ["triton"])


def test_a_problem(run):
    found = json.loads(run("kernels", "--problem", "mace-small@0.05:odd", *SMALL, "--json").out)
    (row,) = found["results"]
    assert row["ok"]
    assert row["with_gradients"]["reference"]["median"] == 1.0
    assert row["left"]["triton"].startswith("runs on GPUs")
    assert set(row["errors"]) == set(row["forward"])


def test_the_kernels_of_a_model(run, tmp_path):
    path = tmp_path / "model.irp"
    save(irprune.run(EVERYTHING, graph()), path)
    shown = run("kernels", str(path), *SMALL, "--backend", "reference").out
    assert "mix_fused" in shown
    assert "×1 " in shown
    assert "not timed for tp_fused: triton: runs on GPUs" in shown


def test_a_kernel_that_computes_something_else_fails(run, monkeypatch):
    known = {"wrong": Wrong(), "reference": Reference()}
    monkeypatch.setattr(backends, "backends", lambda: known)
    args = ["kernels", "--problem", "mace-small@0.05", *SMALL]
    found = json.loads(run(*args, "--json", code=1).out)
    assert not found["results"][0]["ok"]
    assert found["results"][0]["errors"]["wrong"] == pytest.approx(1e-3, rel=0.1)
    assert "FAILED" in run(*args, code=1).out


def test_kept_results_are_taken_over(run, tmp_path, monkeypatch):
    out = tmp_path / "results.json"
    first = ["kernels", "--problem", "mace-small@0.05", *SMALL, "-o", str(out), "--json"]
    one = json.loads(run(*first).out)["results"]
    count = []
    real = module._measure
    monkeypatch.setattr(module, "_measure", lambda *a: count.append(a[1].name) or real(*a))
    two = json.loads(run(*first, "--problem", "mace-small@0.05:odd").out)["results"]
    assert count == ["mace-small@0.05:odd"]
    assert two[0] == one[0]
    run(*first, "--rounds", "3")  # another setting: measured again
    assert count == ["mace-small@0.05:odd", "mace-small@0.05"]
    assert len(json.loads(out.read_text())["results"]) == 2
    said = run(*first, "--seed", "7", code=2).err
    assert f"the results in {out} are of another run (seed differ)" in said
    out.write_text("[]")
    assert f"{out} holds no results of irprune bench" in run(*first, code=2).err


def test_whole_models(run, tmp_path):
    path = tmp_path / "model.irp"
    save(graph(), path)
    found = json.loads(run("models", str(path), "--atoms", "8", "--rounds", "2", "--json").out)
    (row,) = found["results"]
    assert set(row["with_gradients"]) == {"as it is", "optimized"}
    assert row["atoms"] >= 8
    assert row["ok"]
    assert 0 < row["errors"]["optimized"] <= row["tolerance"] == 1e-9
    net = tmp_path / "net.irp"
    save(irprune.trace(nn.Sequential(o3.Linear("2x0e", "2x0e")), {"input": "2x0e"}), net)
    said = " ".join(run("models", str(net), code=2).err.split())
    assert (
        f"bench models needs an interatomic potential, but {net} is a network without atoms; bench"
        " kernels times its kernels"
    ) in said
    fast = tmp_path / "fast.irp"
    save(irprune.run(EVERYTHING, graph()), fast)
    assert "is optimized already" in run("models", str(fast), code=2).err


def test_a_model_that_optimize_changes_fails(run, tmp_path, monkeypatch):
    path = tmp_path / "model.irp"
    save(graph(), path)
    real = api.optimize

    def wrong(given, **options):
        made = real(given, **options)
        made.gm.get_parameter("square.weight").data *= 1.001
        return made

    monkeypatch.setattr(api, "optimize", wrong)
    args = ["models", str(path), "--atoms", "8", "--rounds", "1"]
    (row,) = json.loads(run(*args, "--json", code=1).out)["results"]
    assert not row["ok"]
    assert row["errors"]["optimized"] > 1e-5
    assert "FAILED" in run(*args, code=1).out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["kernels"], "name a MODEL, or a kernel with --problem"),
        (["kernels", "a", "b"], "bench kernels takes one model, got 2"),
        (["models"], "bench models needs at least one MODEL"),
        (["models", "a", "--problem", "x"], "bench models does not take --problem"),
    ],
)
def test_usage(run, args, message):
    assert f"error: {message}" in run(*args, code=2).err
