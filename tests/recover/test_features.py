"""Features of the teacher's blocks that the student kept."""

from __future__ import annotations

import pytest
import torch

import irprune
from irprune import api
from irprune.errors import UsageError
from irprune.evaluation.potential import Potential
from irprune.irreps import IrrepsType, Layout, Space
from irprune.masked import MultipliedInterpreter, read_plan
from irprune.recover.features import Watched, kept_columns
from irprune.recover.graphs import recover_graph
from irprune.recover.settings import Settings
from tests.passes import toy


@pytest.fixture(scope="module")
def pruned():
    return irprune.run("score{by=random},select{keep=0.6},slice", toy.graph(), seed=1)


class Recorder(MultipliedInterpreter):
    """The masked model, with the value of every node."""

    def run_node(self, n):
        found = super().run_node(n)
        self.values[n.name] = found
        return found


def masked_values(graph, inputs):
    z = torch.from_numpy(graph.keep.astype("float64"))
    recorder = Recorder(graph, read_plan(graph, of_value=True), z)
    recorder.values = {}
    recorder.run(*inputs)
    return recorder.values


def flat_nodes(graph):
    return [
        n.name
        for n in graph.gm.graph.nodes
        if n.op == "call_module"
        and isinstance(t := graph.sites[n.name].out, IrrepsType)
        and t.layout is Layout.MUL_IR
        and t.space is Space.NODE
    ]


def test_the_columns_hold_what_the_student_has(pruned):
    """The values of the sliced model are the kept columns of the masked one's."""
    teacher = pruned.origin.replace(keep=None)
    inputs = pruned.example(seed=0, dtype=torch.float64)
    masked = masked_values(pruned.origin, inputs)
    nodes = flat_nodes(pruned)
    columns = kept_columns(pruned, teacher, nodes)
    watched = Watched(pruned.gm, dict.fromkeys(nodes))
    watched(*inputs)
    found = watched.taken()
    for node in nodes:
        want = masked[node] if columns[node] is None else masked[node][:, columns[node]]
        assert torch.allclose(found[node], want, atol=1e-10), node
    cut = [n for n in nodes if columns[n] is not None]
    assert len(cut) >= 3
    assert any((torch.diff(columns[n]) > 1).any() for n in cut)


def test_columns_through_two_slices(pruned):
    again = irprune.run("score{by=random},select{keep=0.6},slice", pruned, seed=2)
    teacher = pruned.origin.replace(keep=None)
    nodes = flat_nodes(again)
    once, twice = (kept_columns(g, teacher, nodes) for g in (pruned, again))
    shrunk = 0
    for node in nodes:
        if twice[node] is not None and once[node] is not None:
            assert set(twice[node].tolist()) <= set(once[node].tolist())
            shrunk += len(twice[node]) < len(once[node])
    assert shrunk > 1


def test_students_of_unknown_origin_are_declined(pruned):
    teacher = pruned.origin.replace(keep=None)
    node = next(
        n for n, c in kept_columns(pruned, teacher, flat_nodes(pruned)).items() if c is not None
    )
    with pytest.raises(UsageError, match="where recover follows slice in one pipeline"):
        kept_columns(pruned.replace(origin=None), teacher, [node])
    with pytest.raises(UsageError, match="node nowhere is not in both student and teacher"):
        kept_columns(pruned, teacher, ["nowhere"])


def apart(student, teacher, frames):
    """Mean |difference| of the features after the gate."""
    columns = kept_columns(student, teacher, ["gate"])
    found = []
    for graph, chosen in ((student, {"gate": None}), (teacher, columns)):
        watched = Watched(graph.gm, chosen)
        model = Potential(watched, graph.atomistic)
        model.evaluate(model.collate(frames))
        found.append(watched.taken()["gate"])
    return float((found[0] - found[1]).abs().mean())


def test_the_student_learns_features(pruned):
    teacher = pruned.origin.replace(keep=None, labels={"layer": "gate"})
    student = pruned.replace(labels={"layer": "gate"})
    frames = api.generated_frames(pruned, 8)
    weights = {"energy_weight": 0.0, "force_weight": 0.0, "feature_weight": 1.0, "ema": 0.0}
    weights["max_force"] = 1e4  # the generated molecules are wild
    trained, result = recover_graph(
        student, teacher, frames, Settings(steps=100, lr=2e-2, **weights)
    )
    first, last = result.history[0].errors, result.history[-1].errors
    assert last["feature_mae"] < 0.7 * first["feature_mae"]
    assert apart(trained, teacher, frames) < 0.7 * apart(student, teacher, frames)
    assert not any(p.requires_grad for p in trained.gm.parameters())
    assert [n.name for n in trained.gm.graph.nodes] == [n.name for n in student.gm.graph.nodes]


def test_a_graph_without_layers_has_no_features_to_learn(pruned):
    teacher = pruned.origin.replace(keep=None)
    with pytest.raises(UsageError, match="feature-weight is set, but this graph names no layers"):
        recover_graph(
            pruned, teacher, api.generated_frames(pruned, 2), Settings(steps=1, feature_weight=1.0)
        )
