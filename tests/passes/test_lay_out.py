"""lay-out: the same function with rows in ir_mul, and the fewest conversions that there can be."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from e3nn import o3
from hypothesis import given, settings
from hypothesis import strategies as st

import irprune
from irprune import api
from irprune.errors import PipelineError, UsageError
from irprune.irreps import Layout
from irprune.laying import LayoutPlan, plan_layouts, read_by, source
from irprune.ops.base import LayoutRole, op_at
from irprune.passmanager import PassContext, find_pass
from irprune.recover.features import kept_columns, layer_nodes
from irprune.verification.ladder import claim_rung, compare_on_examples
from tests import networks
from tests.families.test_exact_members import REAL, real_graph
from tests.passes import toy

pytestmark = pytest.mark.usefixtures("unscripted")

LOWER = "fold-onehot,fuse-conv,fuse-linear,cse"
KINDS = ("linear", "bias", "residual", "uvu", "fctp", "gate", "activation", "concat", "columns")


@pytest.fixture(scope="module")
def lowered():
    return api.run(LOWER, toy.graph())


def laid(graph, text="lay-out"):
    made, report = api.run_reported(text, graph)
    return made, report.results["lay-out"]


def test_a_small_potential(lowered):
    """Convolution, linear map and gate in ir_mul; the product behind them reads mul_ir."""
    made, found = laid(lowered)
    assert found == {
        "layout": "ir_mul",
        "kernels": 2,
        "made": 3,
        "cancelled": 2,
        "left": 1,
        "borders": {"gate": ["square"]},
    }
    assert claim_rung(made, toy.frames()).value < 1e-12
    assert "lowered" in made.facts
    assert made.claim.gm is lowered.claim.gm
    text = str(made)
    assert "%gate : node[3x0e+2x1o ir_mul] = plain-gate(%mix_fused) {gate_ir_mul}" in text
    assert "%gate_to_mul_ir : node[3x0e+2x1o] = change-layout(%gate) {gate_to_mul_ir}" in text


def test_again_and_back(lowered):
    before = str(lowered), copy.deepcopy(lowered.gm.state_dict())
    made, _ = laid(lowered)
    again, found = laid(made)
    assert again.gm is made.gm
    assert found["left"] == 1
    back, found = laid(made, "lay-out{layout=mul_ir}")
    assert (found["made"], found["left"], found["kernels"]) == (0, 0, 2)
    assert str(back) == str(lowered).replace("= gate(", "= plain-gate(")
    inputs = lowered.example(seed=3)
    assert torch.equal(back.gm(*inputs), lowered.gm(*inputs))
    nothing, found = laid(lowered, "lay-out{layout=mul_ir}")
    assert nothing.gm is lowered.gm
    assert (str(lowered), list(before[1])) == (before[0], list(lowered.gm.state_dict()))
    for name, t in lowered.gm.state_dict().items():
        assert torch.equal(t, before[1][name])
    with torch.no_grad():
        for p in made.gm.parameters():
            p.zero_()
    assert float(lowered.gm(*inputs).detach().abs().max()) > 0, "weights are shared"


def test_the_file(lowered, tmp_path):
    made, _ = laid(lowered)
    made.save(tmp_path / "a.irp")
    read = irprune.load(tmp_path / "a.irp")
    assert str(read) == str(made)
    inputs = made.example(seed=3)
    assert torch.equal(read.gm(*inputs), made.gm(*inputs))


def test_pruning_comes_before(lowered, tmp_path):
    """Declined by name, in this process and from the file, with what to do."""
    with pytest.raises(PipelineError) as error:
        api.run("lay-out,score{by=magnitude}", lowered)
    assert str(error.value) == (
        "score: lay-out has rewritten ops for speed, and these keep all their blocks; run score before"
    )
    made, _ = laid(lowered)
    made.save(tmp_path / "a.irp")
    for graph in (made, irprune.load(tmp_path / "a.irp")):
        with pytest.raises(PipelineError, match=r"^score: an exact pass has .* run score before$"):
            api.run("score{by=magnitude}", graph)
    reasons = set(made.blocks.fixed.values())
    assert (
        "rows in another layout: prune before lay-out (gate_to_mul_ir (module gate_to_mul_ir))"
        in (reasons)
    )


@pytest.mark.parametrize(
    "only", [{"tp"}, {"scatter_sum"}, {"mix_fused"}, {"gate", "mix_fused"}, set()]
)
def test_node_by_node(lowered, only):
    """What is done to some nodes is right without the rest."""
    nodes = {n for n in lowered.sites if any(n.startswith(o) for o in only)}
    context = PassContext(only=frozenset(nodes))
    made = find_pass("lay-out")().run(lowered, context)
    assert set(context.rewritten) <= nodes
    assert compare_on_examples(lowered, lowered.gm, made.gm) <= 1e-12


@settings(max_examples=8, deadline=None, derandomize=True)
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), seed=st.integers(0, 10_000))
def test_random_networks(kinds, seed):
    """Equal in float64, and no labels of the free nodes leave fewer conversions."""
    graph = irprune.trace(networks.RandomNet(tuple(kinds), seed).double(), networks.INPUTS)
    graph = api.run("fuse-linear", graph)
    made, found = laid(graph)
    for grow in (0, 3):
        assert compare_on_examples(graph, graph.gm, made.gm, grow) <= 1e-12
    there = sum(op_at(s).name == "change-layout" for s in made.sites.values() if s.module)
    assert there == found["left"] == fewest(graph)


def fewest(graph):
    """Conversions with the best of all ways to label the free nodes, counted by hand."""
    plan = plan_layouts(graph.sites, Layout.IR_MUL)
    free = [n for n in plan.labels if role(graph.sites[n]) is LayoutRole.ANY]
    assert len(free) <= 12
    best = len(plan.labels)
    for chosen in itertools.product((Layout.MUL_IR, Layout.IR_MUL), repeat=len(free)):
        labels = {**plan.labels, **dict(zip(free, chosen, strict=True))}
        wrong = {
            source(graph.sites, operand).name
            for name in labels
            for operand in read_by(graph.sites[name])
            if labels[source(graph.sites, operand).name] is not labels[name]
        }
        best = min(best, len(wrong))
    return best


def role(site):
    op = op_at(site) if site.node.op.startswith("call") else None
    return LayoutRole.FIXED if op is None else op.layout_role(site)


def test_a_value_is_converted_once():
    """Two maps read an input: one conversion serves both."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = o3.Linear("2x0e+3x1o", "2x0e+3x1o")
            self.b = o3.Linear("2x0e+3x1o", "2x0e+3x1o")

        def forward(self, x):
            return self.a(x) + self.b(x)

    graph = api.run("fuse-linear", irprune.trace(Net().double(), {"x": "2x0e+3x1o"}))
    made, found = laid(graph)
    assert (found["made"], found["left"]) == (4, 2)
    assert found["borders"] == {"x": ["a_fused", "b_fused"], "add": ["output"]}
    assert compare_on_examples(graph, graph.gm, made.gm) <= 1e-12


def test_operands_that_are_split_otherwise():
    """A sum of 2x1o+1x1o and 3x1o is the same numbers in mul_ir only: it stays there."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = o3.Linear("2x0e+3x1o", "2x1o+1x1o")
            self.b = o3.Linear("2x0e+3x1o", "3x1o")
            self.c = o3.Linear("3x1o", "2x1o")

        def forward(self, x):
            return self.c(self.a(x) + self.b(x))

    graph = api.run("fuse-linear", irprune.trace(Net().double(), {"x": "2x0e+3x1o"}))
    made, found = laid(graph)
    assert "add" in {r for readers in found["borders"].values() for r in readers}
    assert compare_on_examples(graph, graph.gm, made.gm) <= 1e-12


def test_an_unknown_layout():
    with pytest.raises(PipelineError, match=r"layout.*mul_x_dim"):
        api.run("lay-out{layout=mul_x_dim}", toy.graph())


def test_features_of_another_layout_are_not_compared(lowered):
    """recover with feature-weight: the error names the pass."""
    made, _ = laid(lowered)
    made = made.replace(labels={"layer 0": "gate"})
    with pytest.raises(UsageError) as error:
        kept_columns(made, lowered, layer_nodes(made))
    assert str(error.value) == (
        "feature-weight: node gate is node[3x0e+2x1o ir_mul] in the student and node[3x0e+2x1o] in"
        " the teacher; put lay-out after recover"
    )


def test_the_plan_is_a_value(lowered):
    plan = plan_layouts(lowered.sites, Layout.IR_MUL)
    assert isinstance(plan, LayoutPlan)
    assert not plan.is_done
    assert set(plan.kernels) == {
        n for n, s in lowered.sites.items() if s.module and "fused" in n
    } - {n for n in lowered.sites if n.startswith(("out", "radial"))}


COUNTS = {"7net-0": (17, 31), "mace-mp-0-small": (6, 8)}
"""Nodes with kernels, and the conversions that they would need alone."""


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_real(name, shared):
    """No conversion is left; energies and forces by the reference backend are those of before."""
    graph = real_graph(REAL[name], shared)
    fast = api.run(api.EXACT.format(specialize="") + ",select-kernels{backend=reference}", graph)
    made, found = laid(fast, "lay-out,select-kernels{backend=reference}")
    assert (found["kernels"], found["made"]) == COUNTS[name]
    assert (found["cancelled"], found["left"], found["borders"]) == (found["made"], 0, {})
    assert "change-layout" not in str(made)
    frames = api.generated_frames(graph, 2)
    assert claim_rung(made.replace(claim=fast), frames).value <= 1e-10
