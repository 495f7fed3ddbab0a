"""irprune.diff: what is found, what is no difference, and what both verbs say."""

from __future__ import annotations

import copy
import json

import pytest
import torch

import irprune
from irprune.cli import main as cli
from irprune.slicing import slice_graph
from tests.handmade import without
from tests.passes.golden_networks import network

pytestmark = pytest.mark.usefixtures("unscripted")


@pytest.fixture(scope="module")
def chain():
    return network("chain").replace(labels={"layer 0": "a", "layer 1": "b"})


@pytest.fixture(scope="module")
def sliced(chain):
    return slice_graph(without(chain, {"a:0e": [1, 2], "a:1o": [0, 1, 2], "b:0e": [0]}))


def test_a_graph_and_itself(chain):
    found = irprune.diff(chain, chain.replace(gm=copy.deepcopy(chain.gm)))
    assert found.equal
    assert found.axes == found.changed == ()
    assert str(found).endswith("nothing differs")


def test_a_weight_that_is_no_number_is_a_difference(chain):
    broken = chain.replace(gm=copy.deepcopy(chain.gm))
    next(p for p in broken.gm.parameters()).data.view(-1)[0] = torch.nan
    for pair in ((chain, broken), (broken, chain)):
        found = irprune.diff(*pair)
        assert not found.equal
        assert [c.parts for c in found.changed] == [("weights",)]


def test_blocks_that_went(chain, sliced):
    found = irprune.diff(chain, sliced)
    assert not found.equal
    assert (found.removed, found.added) == ((), ())
    layers = {(c.where, c.irrep): (c.before, c.after) for c in found.layers}
    assert layers["layer 0", "0e"] == (4, 2)
    assert layers["layer 0", "1o"] == (3, 0)
    assert layers["layer 1", "0e"] == (5, 4)
    (first, *_) = (c for c in found.changed if c.before.name == "a")
    assert first.parts == ("type", "tensors")
    assert first.before.type == "node[4x0e+3x1o]"
    assert first.after.type == "node[2x0e]"
    axes = {c.where: (c.before, c.after) for c in found.axes}
    assert axes["a:0e"] == (4, 2)
    assert found.before.params == chain.stats().params
    assert found.after.params == sliced.stats().params
    assert "layer layer 0 0e: 4 → 2" in str(found)


def test_nodes_that_went_and_came():
    before = network("small")
    found = irprune.diff(before, irprune.run("fuse-conv", before))
    assert {n.name for n in found.removed} == {"getitem_1", "tp", "message_gather"}
    assert {n.op for n in found.added} == {"convolution", "edge-lists"}
    assert sum(n.params for n in found.removed) == 0
    changed = {c.before.name: c.parts for c in found.changed}
    assert changed == {"mix": ("args",)}


def test_costs_add_up(chain, sliced):
    for graph in (chain, sliced, network("small")):
        found = irprune.diff(network("wasteful"), graph)
        nodes = [*found.added, *(c.after for c in found.changed)]
        assert sum(n.params for n in nodes) == graph.stats().params
        assert sum(n.flops_per_atom for n in nodes) == pytest.approx(graph.stats().flops_per_atom)


def test_numbers_in_names_are_no_difference():
    before = network("small")
    after = irprune.run("cse", before)
    after.gm.graph.lint()
    found = irprune.diff(before, after)
    assert {n.name for n in found.removed} == {"neg_1"}
    renamed = copy.deepcopy(after.gm)
    for node in list(renamed.graph.nodes):
        if node.name == "exp_1":
            with renamed.graph.inserting_before(node):
                new = renamed.graph.create_node(node.op, node.target, node.args, name="exp_9")
            node.replace_all_uses_with(new)
            renamed.graph.erase_node(node)
    renamed.recompile()
    assert irprune.diff(after, after.replace(gm=renamed)).equal


def test_weights_are_compared_by_value(chain):
    gm = copy.deepcopy(chain.gm)
    with torch.no_grad():
        gm.get_submodule("b").weight[3] += 1e-7
    (change,) = irprune.diff(chain, chain.replace(gm=gm)).changed
    assert change.before.name == "b"
    assert change.parts == ("weights",)
    assert 1e-8 < change.weights < 1e-6
    (change,) = irprune.diff(chain, chain.replace(gm=chain.module(torch.float32))).changed[:1]
    assert "tensors" in change.parts
    assert "float64" in change.before.tensors[0]
    assert "float32" in change.after.tensors[0]


def test_the_verb(chain, sliced, tmp_path, capsys):
    one, two = str(tmp_path / "a.irp"), str(tmp_path / "b.irp")
    chain.save(one)
    sliced.save(two)
    assert cli.run(["diff", one, two, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] is False
    assert found["params_before"] == chain.stats().params
    assert found["params"] == sliced.stats().params
    assert {"where": "layer 0", "kind": "layer", "irrep": "1o", "before": 3, "after": 0} in found[
        "layers"
    ]
    assert {c["name"] for c in found["changed"]} == {"a", "b", "c", "getitem", "tanh"}
    assert cli.run(["diff", one, two]) == 0
    text = capsys.readouterr().out
    assert "type node[4x0e+3x1o] → node[2x0e]" in text
    assert "layer 0" in text
    assert cli.run(["diff", one, one]) == 0
    assert "nothing differs" in capsys.readouterr().out


def test_show_prints_text_alone(chain, tmp_path, capsys):
    path = str(tmp_path / "a.irp")
    chain.save(path)
    assert cli.run(["show", path, "--text"]) == 0
    assert capsys.readouterr().out == f"{chain}\n"
    assert cli.run(["show", path, "--text", "--costs", "--groups", "--tensors"]) == 0
    assert capsys.readouterr().out == chain.text(costs=True, groups=True, tensors=True) + "\n"
    assert cli.run(["show", path, "--text", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == str(chain)
