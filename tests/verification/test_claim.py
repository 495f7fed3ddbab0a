"""The claim: what a graph says that it equals, and the check of the weights that it really has."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

import irprune
from irprune import api
from irprune.errors import CheckFailed, PipelineError
from irprune.verification.ladder import claim_rung, verify_graph
from irprune.verification.physical import agreement
from tests.passes import toy

PRUNE = "score{by=random},select{keep=0.6},slice"


@pytest.fixture(scope="module")
def graph():
    return toy.graph()


@pytest.fixture(scope="module")
def pruned(graph):
    return irprune.run(PRUNE, graph, seed=1)


@pytest.fixture(scope="module")
def frames(graph):
    return api.generated_frames(graph, 2)


def damaged(graph, name):
    """The graph with one weight of the module moved by 1e-4 of itself."""
    gm = copy.deepcopy(graph.gm)
    with torch.no_grad():
        gm.get_parameter(name).view(-1)[0] *= 1 + 1e-4
    return graph.replace(gm=gm)


def test_a_slice_claims_its_masked_original(graph, pruned, frames):
    assert graph.claim is None
    assert pruned.claim is pruned.origin
    assert claim_rung(pruned, frames).value < 1e-13
    assert claim_rung(pruned, None).value < 1e-13


def test_the_weights_in_memory_are_what_is_checked(pruned, frames):
    broken = damaged(pruned, "out.weight")
    checks = {c.name: c for c in verify_graph(broken, frames, steps=())}
    assert checks["masked-sliced"].ok, "the origin is sliced again: it cannot see the damage"
    assert not checks["claim"].ok
    with pytest.raises(CheckFailed, match=r"^claim: "):
        irprune.run("verify", broken, frames)


def test_float32_weights_are_allowed_their_rounding(graph, frames):
    small = irprune.run(PRUNE, graph.replace(gm=copy.deepcopy(graph.gm).float()), seed=1)
    check = claim_rung(small, frames)
    assert check.ok
    assert 1e-12 < check.value < 1e-5
    assert check.tolerance == 1e-4


def test_agreement_allows_float32_folds_their_rounding_and_no_more(graph, frames):
    """verify --against computes in float64 with weights that were folded and rounded to float32."""
    made = replace(graph.atomistic, dtype="float32")
    given = graph.replace(gm=copy.deepcopy(graph.gm).float(), atomistic=made)
    fast = irprune.optimize(given, verify=False)
    found = []
    for other in (fast, damaged(fast, "square.weight")):
        a, b = (api.potential(g, dtype="float64", compiled=False) for g in (given, other))
        found.append(agreement(a, b, frames, "agreement-folded"))
    assert [c.ok for c in found] == [True, False]
    assert found[0].value > 1e-9
    assert {c.tolerance for c in found} == {5e-6}
    assert agreement(a, a, frames).tolerance == 1e-9


@pytest.fixture(scope="module")
def sparse(graph):
    """The graph with a path of the tensor product whose weights are all zero."""
    gm = copy.deepcopy(graph.gm)
    with torch.no_grad():
        gm.get_submodule("radial.layer1").weight[:, 4:8] = 0
    return graph.replace(gm=gm)


@pytest.mark.parametrize("after", ["rewrite-tp", "eliminate-dead", "rewrite-tp,eliminate-dead"])
def test_an_exact_pass_keeps_the_claim(sparse, after):
    pruned = irprune.run(PRUNE, sparse, seed=1)
    small = irprune.run(after, pruned)
    assert small.claim is pruned.claim
    assert claim_rung(small, None).value < 1e-13
    if "rewrite-tp" in after:
        assert small.stats().params < pruned.stats().params


def test_an_exact_pass_claims_what_it_was_given(sparse):
    small = irprune.run("rewrite-tp", sparse)
    assert small.stats().params < sparse.stats().params
    assert small.claim.gm is sparse.gm
    assert claim_rung(small, None).value < 1e-13


def test_training_ends_the_claim(pruned, frames):
    trained = irprune.run("recover{steps=2,structures=2}", pruned, frames)
    assert trained.claim is None
    assert trained.origin is not None
    assert "claim" not in {c.name for c in verify_graph(trained, frames, steps=())}
    again = irprune.run(PRUNE, trained, frames, seed=2)
    assert again.claim is again.origin
    with pytest.raises(PipelineError, match="claims to equal no other"):
        trained.claimed()
