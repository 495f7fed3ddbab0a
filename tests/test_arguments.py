"""Natural mistakes in Python are told by name, before any work."""

from __future__ import annotations

import pytest
from ase import Atoms

import irprune
from irprune import api
from irprune.errors import DataError, UsageError
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
