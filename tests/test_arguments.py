"""Natural mistakes in Python are told by name, before any work."""

from __future__ import annotations

import pytest
from ase import Atoms

import irprune
from irprune import api
from irprune.errors import DataError, PipelineError, UsageError
from tests.passes import toy


@pytest.fixture(scope="module")
def graph():
    return toy.graph()


DATA = [
    ([], DataError, "data has no structures; leave data out for generated ones"),
    (
        "ok.xyz",
        UsageError,
        "data is a sequence of ase.Atoms, got the path 'ok.xyz'; read it first:"
        " ase.io.read('ok.xyz', ':')",
    ),
    (
        Atoms("OH"),
        UsageError,
        "data is a sequence of ase.Atoms, got one structure (HO); put it into a list: [atoms]",
    ),
    (
        (a for a in [Atoms("H")]),
        UsageError,
        "data is a sequence of ase.Atoms, got generator; make it a list: list(data)",
    ),
    (["ok.xyz"], UsageError, "data is a sequence of ase.Atoms, got one of str"),
]


@pytest.mark.parametrize(("data", "kind", "message"), DATA)
def test_what_is_no_structures(graph, data, kind, message) -> None:
    with pytest.raises(kind) as caught:
        irprune.run("score", graph, data)
    assert str(caught.value) == message
    with pytest.raises(kind) as caught:
        api.evaluate(graph, data)
    assert str(caught.value) == message


def test_what_is_no_graph() -> None:
    with pytest.raises(UsageError) as caught:
        irprune.run("score", "tiny.pth")
    assert str(caught.value) == (
        "a pipeline runs on a graph, got the path 'tiny.pth'; read it first: irprune.load('tiny.pth')"
    )
    with pytest.raises(UsageError) as caught:
        irprune.run("score", toy.Potential())
    assert str(caught.value) == (
        "a pipeline runs on a graph, got Potential; irprune.load reads one, and irprune.trace makes"
        " one of a module"
    )


def test_what_is_no_list_of_passes(graph) -> None:
    with pytest.raises(PipelineError) as caught:
        irprune.run(["score"], graph)
    assert str(caught.value) == (
        "a pipeline is text, a recipe's path or a list of passes, got 'score' in a list; write names"
        " and options as one text: 'score,select{keep=0.5},slice'"
    )


def test_a_device_that_is_not_there(graph) -> None:
    with pytest.raises(UsageError, match=r"^calculator: device 'cuda:99' cannot be used: "):
        irprune.calculator(graph, device="cuda:99")
