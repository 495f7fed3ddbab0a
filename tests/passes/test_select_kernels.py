"""select-kernels: what every backend says, what is chosen, bound, required, written and shown."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

import irprune
from irprune import api, backends
from irprune.backends import Backend, Decline
from irprune.cli import main as cli
from irprune.errors import ModelFileError, UsageError
from irprune.graphfile import load, save, to_json
from irprune.kernelplan import KernelPlan, kernel_nodes, moved, plan_kernels
from irprune.specs.linear import LinearSpec
from irprune.specs.path import PathSpec
from tests.passes.toy import graph

FILE = "convolutions only"
EVERYTHING = "cse,fold-onehot,fuse-conv,share-pairs,fuse-linear,cse"
pytestmark = pytest.mark.usefixtures("unscripted")


class Convolutions(Backend):
    """Serves convolutions, by the reference, and counts its kernels."""

    name = "convolutions"
    rank = 50
    made = 0
    meant = True

    def supports(self, spec, device, dtype):
        if device.type != "cpu":
            return Decline(self.name, "it runs on the CPU")
        return None if isinstance(spec, PathSpec) else Decline(self.name, FILE, meant=self.meant)

    def kernel(self, spec):
        Convolutions.made += 1
        return backends.Reference().kernel(spec)


class Asked(Convolutions):
    """Ranks below the reference on the CPU."""

    name = "asked"

    def rank_on(self, device):
        return -5 if device.type == "cpu" else 50


@pytest.fixture
def known(monkeypatch):
    found = {b.name: b for b in (Convolutions(), backends.Reference(), Asked())}
    monkeypatch.setattr(backends, "backends", lambda: found)
    return found


@pytest.fixture(scope="module")
def lowered(unscripted):
    return irprune.run(EVERYTHING, graph())


def served(made):
    return {c.op: c.backend for c in made.kernels.choices}


def test_every_node_has_a_choice_and_every_decline(lowered, known):
    made = irprune.run("select-kernels", lowered)
    nodes = [n.name for n, _ in kernel_nodes(lowered.gm)]
    assert [c.node for c in made.kernels.choices] == nodes
    assert len(nodes) > 2
    assert served(made) == {"convolution": "convolutions", "block-linear": "reference"}
    linear = next(c for c in made.kernels.choices if c.op == "block-linear")
    assert [str(d) for d in linear.declined] == [f"convolutions: {FILE}", f"asked: {FILE}"]
    convolution = next(c for c in made.kernels.choices if c.op == "convolution")
    assert convolution.declined == ()
    assert (made.kernels.device, made.kernels.dtype) == ("cpu", "float64")
    assert str(made).endswith(str(made.kernels))
    assert str(made.kernels).startswith("kernels for cpu, float64: ")


def test_auto_changes_no_module_and_claims_nothing(lowered, known):
    made = irprune.run("select-kernels", lowered)
    assert made.gm is lowered.gm
    assert made.claim is lowered.claim
    assert {m.backend for _, m in kernel_nodes(made.gm)} == {"auto"}


def test_a_named_backend_is_bound_where_it_serves(lowered, known):
    made = irprune.run("select-kernels{backend=asked}", lowered)
    assert served(made) == {"convolution": "asked", "block-linear": "reference"}
    bound = {c.op: c.bound for c in made.kernels.choices}
    assert bound == {"convolution": True, "block-linear": False}
    assert {type(m.spec): m.backend for _, m in kernel_nodes(made.gm)} == {
        PathSpec: "asked@cpu",
        LinearSpec: "auto",
    }
    assert {m.backend for _, m in kernel_nodes(lowered.gm)} == {"auto"}  # as it was
    again = irprune.run("select-kernels", made)
    assert {m.backend for _, m in kernel_nodes(again.gm)} == {"auto"}


def test_the_rank_may_depend_on_the_device(lowered, known):
    made = irprune.run("select-kernels{device=cuda}", lowered)
    assert served(made)["convolution"] == "reference"
    convolution = made.kernels.choices[0]
    assert [d.backend for d in convolution.declined] == ["convolutions", "asked"]
    assert [b.name for b in backends.order(torch.device("cuda"))][-1] == "reference"
    assert [b.name for b in backends.order(torch.device("cpu"))][-1] == "asked"


def test_the_kernel_that_runs_is_the_one_that_was_bound(lowered, known):
    # a key of its own, so that no kernel is cached
    spec = next(m.spec for _, m in kernel_nodes(lowered.gm) if isinstance(m.spec, PathSpec))
    before = Convolutions.made
    backends._kernel.cache_clear()
    made = irprune.run("select-kernels{backend=convolutions}", lowered)
    made.gm(*made.example())
    assert Convolutions.made == before + 1
    backends._kernel.cache_clear()
    assert backends.choose(spec, torch.device("cpu"), torch.float64, "asked").backend == "asked"


def test_a_required_kernel_that_declines_is_an_error_that_names_the_node(lowered, known):
    with pytest.raises(UsageError) as error:
        irprune.run("select-kernels{require=convolutions}", lowered)
    first, *others = [
        (n.name, n.target) for n, m in kernel_nodes(lowered.gm) if isinstance(m.spec, LinearSpec)
    ]
    also = ", ".join(name for name, _ in others)
    assert str(error.value) == (
        f"the kernel convolutions is required, but it declines node {first[0]} (block-linear, module"
        f" {first[1]}) on cpu in float64: {FILE}; it declines {also} as well"
    )


def test_a_required_kernel_that_serves_is_bound(lowered):
    made = irprune.run("select-kernels{require=reference}", lowered)
    assert set(made.kernels.counts()) == {"reference"}
    assert {m.backend for _, m in kernel_nodes(made.gm)} == {"reference@cpu"}


def test_nodes_that_a_backend_is_not_meant_for_are_left_out(lowered, known, monkeypatch):
    monkeypatch.setattr(Convolutions, "meant", False)
    made = irprune.run("select-kernels{require=convolutions}", lowered)
    assert served(made) == {"convolution": "convolutions", "block-linear": "reference"}
    linear = next(c for c in made.kernels.choices if c.op == "block-linear")
    assert linear.declined[0] == Decline("convolutions", FILE, meant=False)
    with pytest.raises(
        UsageError, match=r"declines node tp_fused .* on cuda .*: it runs on the CPU"
    ):
        irprune.run("select-kernels{require=convolutions,device=cuda}", lowered)


def test_a_backend_that_serves_no_node_cannot_be_required(lowered, known, monkeypatch):
    monkeypatch.setattr(
        Asked, "supports", lambda self, *a: Decline(self.name, "has none", meant=False)
    )
    with pytest.raises(
        UsageError, match=r"it declines node tp_fused .* has none; it declines mix_"
    ):
        irprune.run("select-kernels{require=asked}", lowered)


def test_bound_for_one_device_others_stay_free(lowered, known):
    made = irprune.run("select-kernels{backend=asked,device=cuda}", lowered)
    assert {m.backend for _, m in kernel_nodes(made.gm)} == {"auto"}  # it declines on CUDA
    spec = next(m.spec for _, m in kernel_nodes(lowered.gm) if isinstance(m.spec, PathSpec))
    choose = backends.choose
    assert choose(spec, torch.device("cpu"), torch.float64, "asked@cuda").backend == "convolutions"
    assert choose(spec, torch.device("cpu"), torch.float64, "asked@cpu").backend == "asked"
    with pytest.raises(UsageError, match="the backend that was asked for declines: asked: it runs"):
        choose(spec, torch.device("cuda"), torch.float64, "asked@cuda")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backend=cudnn", "no backend is called 'cudnn'; known are convolutions, reference, asked"),
        ("require=cudnn", "no backend is called 'cudnn'; known are convolutions, reference, asked"),
        (
            "backend=asked,require=reference",
            "select-kernels cannot require reference and take asked; give one",
        ),
        ("dtype=int8", "unknown dtype 'int8'; known are float32, float64"),
    ],
)
def test_wrong_options(lowered, known, text, message):
    with pytest.raises(UsageError) as error:
        irprune.run(f"select-kernels{{{text}}}", lowered)
    assert str(error.value) == message


def test_a_device_that_torch_does_not_know(lowered):
    with pytest.raises(UsageError, match="no device is called 'gpu0'"):
        irprune.run("select-kernels{device=gpu0}", lowered)


def test_a_graph_without_such_nodes():
    plain = graph()
    made = irprune.run("select-kernels", plain)
    assert made.kernels.choices == ()
    assert str(made.kernels) == "kernels for cpu, float64: no node has any"
    with pytest.raises(UsageError) as error:
        irprune.run("select-kernels{require=reference}", plain)
    assert str(error.value) == (
        "the kernel reference is required, but no node of the graph can have one; run fuse-conv,"
        " lower-contraction or fuse-linear before select-kernels"
    )


def test_the_plan_and_the_binding_survive_the_file(lowered, known, tmp_path):
    made = irprune.run("select-kernels{backend=convolutions}", lowered)
    path = tmp_path / "planned.irp"
    save(made, path)
    found = load(path)
    assert found.kernels == made.kernels
    assert str(found) == str(made)
    assert [m.backend for _, m in kernel_nodes(found.gm)] == [
        m.backend for _, m in kernel_nodes(made.gm)
    ]
    assert torch.equal(found.gm(*made.example()), made.gm(*made.example()))


def test_a_file_with_a_backend_for_what_has_none_is_damaged(lowered, tmp_path, monkeypatch):
    described = to_json(lowered)
    path = next(p for p, m in described["modules"].items() if m["op"] not in ("block-linear",
        "convolution"))  # fmt: skip
    described["modules"][path]["backend"] = "cpu"
    monkeypatch.setattr("irprune.graphfile.to_json", lambda graph: described)
    save(lowered, tmp_path / "bad.irp")
    with pytest.raises(ModelFileError, match=f"module {path} has a backend, but no kernel can"):
        load(tmp_path / "bad.irp")


def test_another_module_has_no_plan(lowered, known):
    made = irprune.run("select-kernels", lowered)
    assert made.replace(edges_per_atom=3.0).kernels is made.kernels
    assert made.replace(gm=made.module()).kernels is None


def test_json_there_and_back(lowered, known):
    plan = plan_kernels(lowered.gm, "convolutions", "cuda", torch.float32)
    again = KernelPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    changed = dataclasses.replace(
        plan, choices=(dataclasses.replace(plan.choices[0], backend="x"), *plan.choices[1:])
    )
    ((then, now),) = moved(changed, plan)
    assert (then.backend, now.backend) == ("x", plan.choices[0].backend)


def test_optimize_ends_with_the_plan(lowered):
    assert str(api.optimize_pipeline()).endswith(",cse,select-kernels,verify")
    named = str(api.optimize_pipeline(require_kernel="triton@cuda"))
    assert "select-kernels{require=triton,device=cuda}" in named
    assert "select-kernels{require=cpu}" in str(api.optimize_pipeline(require_kernel="cpu"))


def test_show_and_the_commands(lowered, known, tmp_path, capsys):
    path, out = str(tmp_path / "planned.irp"), str(tmp_path / "out.irp")
    save(irprune.run("select-kernels{backend=asked}", lowered), path)
    known.pop("asked")
    known["asked"] = _Gone()
    assert cli.run(["show", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["kernel_plan"]
    node = found["nodes"][0]
    assert (node["op"], node["backend"], node["bound"]) == ("convolution", "asked", True)
    assert found["here"] == {node["node"]: "convolutions"}
    assert cli.run(["show", path]) == 0
    text = capsys.readouterr().out
    assert "kernels for cpu, float64" in text
    assert f"here {node['node']} would be served by convolutions" in text
    assert f"declined 2 block-linear by convolutions: {FILE}" in text
    command = ["optimize", path, "-o", out, "--no-verify", "--require-kernel", "convolutions"]
    assert cli.run(command) == 2
    assert "error: the kernel convolutions is required, but it declines node" in (
        capsys.readouterr().err
    )


class _Gone(Asked):
    def supports(self, spec, device, dtype):
        return Decline(self.name, "not installed")
