"""Profiles: every node timed, the sums, and the peaks; on a small potential."""

from __future__ import annotations

import json

import pytest
import torch
from ase import Atoms
from ase.build import bulk

import irprune
from irprune import api
from irprune.cli.profile import repeated
from irprune.errors import UsageError
from irprune.profile.model import profile
from irprune.profile.peaks import Peaks, measure
from tests.passes import toy


@pytest.fixture(scope="module")
def found():
    graph = toy.graph()
    atoms = api.generated_frames(graph, 4)[0]
    return graph, atoms, profile(graph, atoms, repeats=2)


def test_every_call_is_timed(found):
    graph, atoms, made = found
    calls = {n.name for n in graph.gm.graph.nodes if n.op.startswith("call")}
    assert {n.node for n in made.nodes} == calls
    assert all(n.forward > 0 and n.backward >= 0 and n.bytes >= 0 for n in made.nodes)
    assert [n.seconds for n in made.nodes] == sorted((n.seconds for n in made.nodes), reverse=True)
    assert made.atoms == len(atoms)
    assert made.call > 0
    assert made.neighbours > 0


def test_what_leads_to_no_force_has_no_backward(found):
    by_name = {n.node: n for n in found[2].nodes}
    assert by_name["one_hot"].backward == by_name["embed"].backward == 0.0
    assert by_name["tp"].backward > 0
    assert by_name["radial"].backward > 0


def test_flops_are_those_of_the_cost_model(found):
    graph, _, made = found
    edges = made.edges / made.atoms
    want = graph.stats(edges_per_atom=edges).flops_per_atom * made.atoms
    assert sum(n.flops for n in made.nodes) == pytest.approx(want, rel=1e-9)


def test_sums_by_op_and_json(found):
    made = found[2]
    rows = made.by_op()
    assert sum(r["nodes"] for r in rows) == len(made.nodes)
    assert sum(r["forward"] + r["backward"] for r in rows) == pytest.approx(made.inside)
    assert json.loads(json.dumps(made.to_json()))["atoms"] == made.atoms


def test_the_least_time():
    peaks = Peaks(flops=100.0, bandwidth=10.0)
    assert peaks.least(50.0, 1.0) == 0.5
    assert peaks.least(50.0, 20.0) == 2.0
    measured = measure(torch.float32, repeats=1)
    assert measured.flops > 1e8
    assert measured.bandwidth > 1e7


def test_optimized_nodes_are_profiled(found):
    graph, atoms, _ = found
    made = profile(irprune.run("fuse-conv,share-pairs", graph), atoms, repeats=1)
    (conv,) = [n for n in made.nodes if n.op == "convolution"]
    assert conv.backward > 0


def test_repeated():
    atoms = bulk("Cu", cubic=True)
    assert len(repeated(atoms, 4)) == 4
    assert len(repeated(atoms, 30)) == 32
    assert len(repeated(Atoms("H"), 30)) == 1


def test_nothing_to_measure(found):
    with pytest.raises(UsageError, match=r"^H has no atoms closer than 3\.0 Å"):
        profile(found[0], Atoms("H"))
    with pytest.raises(UsageError, match="profile needs an interatomic potential"):
        profile(found[0].replace(atomistic=None), Atoms("H"))
