"""bisect finds the pass with a fold removed, and what it gets wrong."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import irprune
from irprune.cli import main as cli
from irprune.debugging.bisect import bisect
from irprune.debugging.failure import Trial
from irprune.errors import ExactnessError
from irprune.passmanager import PassContext, Pipeline, find_pass, pass_names
from tests.debugging.broken import broken  # noqa: F401
from tests.passes.golden_networks import network

pytestmark = pytest.mark.usefixtures("unscripted", "broken")


def found(pipeline, graph):
    return bisect(Pipeline.parse(pipeline), graph)


def test_a_pass_by_node():
    """Only the map with factors around it is wrong, of the four that are rewritten."""
    result = found("cse,fuse-conv,t-fuse-linear,cse", network("small"))
    assert result.prefix == "cse,fuse-conv,t-fuse-linear"
    assert result.failing == "t-fuse-linear"
    assert result.failure.names == ("claim",)
    assert result.part.kind == "nodes"
    assert result.part.names == ("mul",)
    assert result.part.of == 3
    assert str(result.part) == "1 of 3 nodes: mul"


def test_a_selection():
    """Only groups that ``c`` reads are cut wrongly: one of them is enough."""
    result = found("score{by=magnitude},select{keep=0.7},t-slice,cse", network("chain"))
    assert result.prefix == "score{by=magnitude},select{keep=0.7},t-slice"
    assert result.part.kind == "groups"
    (name,) = result.part.names
    assert name.startswith("b:0e[")
    assert result.part.of > 1
    assert {"b", "tanh"} <= set(result.part.values)


def test_an_error_of_a_pass_as_a_whole():
    result = found("cse,t-raises", network("small"))
    assert result.prefix == "cse,t-raises"
    assert (result.failure.kind, result.failure.error) == ("ExactnessError", "tanh is too much")
    assert str(result.part) == "the whole pass: t-raises decides about the whole graph"


def test_nothing_fails():
    result = found("cse,fuse-conv,fuse-linear", network("small"))
    assert (result.prefix, result.failure, result.part) == (None, None, None)
    assert result.runs == 3
    assert found("cse", network("chain")).before is None


def test_a_model_that_fails_by_itself():
    graph = network("small")
    wrong = graph.replace(claim=irprune.run("t-fuse-linear", graph).replace(claim=None))
    result = found("cse", wrong)
    assert result.before.names == ("claim", "forces")  # the network is not smooth at its cutoff
    assert (result.prefix, result.failure) == (None, None)
    result = found("cse,t-raises", wrong)
    assert result.prefix == "cse,t-raises"


def test_a_model_that_cannot_be_checked(monkeypatch):
    from irprune.verification import ladder

    def fail(*args, **kwargs):
        raise ExactnessError("no")

    monkeypatch.setattr(ladder, "types_rung", fail)
    result = found("cse", network("chain"))
    assert (result.prefix, result.part) == ("", None)
    assert str(result.failure) == "ExactnessError: no"


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ("", "cse"), ("", "fold-onehot"), ("", "fuse-conv"), ("", "fuse-linear"),
        ("fuse-conv", "share-pairs"),
    ],
)  # fmt: skip
def test_a_pass_by_node_is_right_on_any_nodes(first, name):
    """What ``by_node`` says: half of the rewriting keeps what the whole keeps."""
    graph = irprune.run(first, network("small")) if first else network("small")
    (p,) = Pipeline.parse(name).passes
    assert p.by_node
    context = PassContext()
    whole = p.run(graph, context)
    nodes = list(dict.fromkeys(context.rewritten))
    assert nodes
    trial = Trial(ignore=frozenset({"forces"}))  # the network is not smooth at its cutoff
    for seed in range(2):
        some = frozenset(n for n in nodes if np.random.default_rng(seed).random() < 0.5)
        given = PassContext(only=some)
        made, failure = trial.step(p, graph.replace(claim=None), given)
        assert failure is None
        assert set(given.rewritten) <= some
        if not some:
            assert made.gm is graph.gm
    nothing, _ = trial.step(p, graph, PassContext(only=frozenset()))
    assert nothing.gm is graph.gm
    assert whole.gm is not graph.gm


def test_the_page_names_the_passes_by_node(repo):
    page = (repo / "docs" / "debugging.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| works node by node: (.*?) \|", page, re.MULTILINE)
    names = [n for n in pass_names() if not n.startswith("t-")]
    assert sorted(re.findall(r"`([\w-]+)`", row)) == [n for n in names if find_pass(n).by_node]


def test_the_verb(tmp_path, capsys):
    path = str(tmp_path / "m.irp")
    network("small").save(path)
    assert cli.run(["bisect", path, "-p", "t-fuse-linear", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["prefix"] == "t-fuse-linear"
    assert answer["pass"] == "t-fuse-linear"
    assert [c["name"] for c in answer["failed"]] == ["claim"]
    assert answer["part"]["names"] == ["mul"]
    assert cli.run(["bisect", path, "-p", "cse,t-raises"]) == 1
    out = capsys.readouterr().out
    assert "shortest prefix that fails: cse,t-raises" in out
    assert "failure: ExactnessError: tanh is too much" in out
    assert cli.run(["bisect", path, "-p", "cse"]) == 1
    out = capsys.readouterr().out
    assert "before any pass: forces: " in out
    assert "no check fails after any pass of cse (1 passes run)" in out
    network("chain").save(path)
    assert cli.run(["bisect", path, "-p", "cse"]) == 0
    assert "before any pass" not in capsys.readouterr().out
