"""The latency estimate: sums over nodes that can be done by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import irprune
from irprune.dead import eliminate_dead
from irprune.latency import estimate
from tests.passes.test_exact import EVERYTHING, graph


@dataclass(frozen=True)
class Counting:
    """Counts FLOPs, or bytes, instead of seconds."""

    bytes: bool

    def least(self, flops, size):
        return size if self.bytes else flops


def test_flops_forward_and_backward():
    """Linear maps on paths to the edge vectors cost twice, the product of two such values thrice."""
    model = graph()
    atoms, edges = 10, 70
    forward = model.stats(edges_per_atom=edges / atoms).flops_per_atom * atoms
    both = estimate(model, atoms, edges, Counting(False))
    assert 2 * forward < both < 3 * forward


def test_it_grows_with_the_structure():
    model = graph()
    for kind in (Counting(True), Counting(False)):
        one, two = (estimate(model, n, 7 * n, kind) for n in (100, 200))
        assert two == pytest.approx(2 * one, rel=0.05)


def test_bytes_are_of_the_dtype():
    import torch

    model = graph()
    half = model.replace(gm=model.module(torch.float32))
    assert estimate(half, 10, 70, Counting(True)) * 2 == estimate(model, 10, 70, Counting(True))


def test_an_optimized_graph_costs_less():
    model = graph()
    fast = irprune.run(EVERYTHING, model)
    for kind in (Counting(True), Counting(False)):
        assert estimate(fast, 10, 70, kind) < estimate(model, 10, 70, kind)


@pytest.mark.parametrize("bytes_", [True, False])
def test_a_mask_costs_what_the_sliced_graph_costs(bytes_):
    model = irprune.run("score{by=random},select{keep=0.5,axes=[channel,radial]}", graph())
    small = irprune.run("slice", model)
    alive = eliminate_dead(model, model.keep)
    kind = Counting(bytes_)
    masked = estimate(model, 10, 70, kind, model.blocks.elements(alive))
    assert masked == pytest.approx(estimate(small, 10, 70, kind), rel=0.02)
    assert masked < 0.8 * estimate(model, 10, 70, kind)
    everything = np.ones(model.blocks.n, bool)
    assert estimate(model, 10, 70, kind, everything) == estimate(model, 10, 70, kind)
