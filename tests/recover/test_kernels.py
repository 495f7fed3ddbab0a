"""Recovery on compiled kernels: the same training, and the graph keeps its ops."""

from __future__ import annotations

import pytest
import torch

import irprune
from irprune import api
from irprune.kernels.cpu import ops as compiled
from irprune.recover import kernels
from tests.passes import toy

RECOVER = "recover{steps=5,structures=4}"


@pytest.fixture(scope="module")
def pruned():
    return irprune.run("score{by=random},select{keep=0.6},slice", toy.graph(), seed=1)


@pytest.fixture(scope="module")
def frames(pruned):
    return api.generated_frames(pruned, 4)


def weights(graph):
    return dict(graph.gm.named_parameters())


def test_the_training_is_the_same(pruned, frames, monkeypatch):
    before = compiled.CALLS["convolution_backward"]
    fast, report = api.run_reported(RECOVER, pruned, frames, teacher=toy.graph())
    assert compiled.CALLS["convolution_backward"] > before
    monkeypatch.setattr(kernels, "KEEPING", "cse")
    calls = dict(compiled.CALLS)
    plain, other = api.run_reported(RECOVER, pruned, frames, teacher=toy.graph())
    assert calls == compiled.CALLS
    for a, b in zip(
        report.results["recover"].history, other.results["recover"].history, strict=True
    ):
        assert a.loss == pytest.approx(b.loss, rel=1e-10)
    moved = 0
    for name, value in weights(plain).items():
        assert torch.allclose(weights(fast)[name], value, rtol=1e-8, atol=1e-10), name
        moved += bool((value != weights(pruned)[name]).any())
    assert moved > 3


def test_the_graph_keeps_its_ops(pruned, frames):
    made = irprune.run("recover{steps=1,structures=4}", pruned, frames)
    assert str(made) == str(pruned)
    assert "lowered" not in made.facts
    assert not any(p.requires_grad for p in made.gm.parameters())


def test_a_lowered_graph_is_trained_as_it_is(pruned, frames):
    lowered = irprune.run("fuse-conv", pruned)
    made = irprune.run("recover{steps=2,structures=4}", lowered, frames, teacher=toy.graph())
    assert str(made) == str(lowered)
    assert any((weights(made)[n] != w).any() for n, w in weights(lowered).items())


def test_all_of_the_data_are_used(pruned):
    """``structures`` says how many to generate, as on the command line."""
    frames = api.generated_frames(pruned, 7)
    _, report = api.run_reported("recover{steps=1,structures=4}", pruned, frames)
    assert report.results["recover"].n_frames == 7
    _, report = api.run_reported("recover{steps=1,structures=4}", pruned)
    assert report.results["recover"].n_frames == 4
