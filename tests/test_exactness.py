"""The invariant: masked and sliced agree, for random networks of e3nn layers and random masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import irprune
from irprune.dead import eliminate_dead
from irprune.slicing import masked_and_sliced, slice_graph
from irprune.verification.ladder import compare_on_examples
from tests import networks

pytestmark = pytest.mark.usefixtures("unscripted")


def traced(kinds, seed):
    return irprune.trace(networks.RandomNet(tuple(kinds), seed).double(), networks.INPUTS)


def assert_exact(graph, tolerance=1e-10):
    sliced = slice_graph(graph)
    masked, small = masked_and_sliced(sliced)
    for grow in (0, 3):
        assert compare_on_examples(sliced, masked, small, grow) <= tolerance
    everything = np.ones(sliced.blocks.n_classes, bool)
    assert (eliminate_dead(sliced, everything) == everything).all(), "a removable dead block stayed"
    return sliced


@pytest.mark.parametrize("kind", networks.KINDS)
def test_every_layer_kind(kind):
    graph = traced(["linear", kind, "linear"], 1)
    assert graph.blocks.barriers == []
    for seed, share in ((0, 0.35), (1, 0.2)):
        assert_exact(graph.replace(keep=networks.random_mask(graph, seed, share)))


@settings(max_examples=15, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
@given(
    kinds=st.lists(st.sampled_from(networks.KINDS), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.1, 0.3, 0.6, 0.9]),
)
def test_masked_equals_sliced(kinds, seed, share):
    graph = traced(kinds, seed)
    assert_exact(graph.replace(keep=networks.random_mask(graph, seed, share)))


def test_nothing_selected_changes_nothing():
    graph = traced(["uvu", "gate", "fctp"], 3)
    sliced = slice_graph(graph)
    assert compare_on_examples(graph, graph.gm, sliced.gm) <= 1e-12


def test_masked_reference_is_the_original_times_zero():
    """The masked model by its definition: the outputs of a layer multiplied by zero by hand."""
    graph = traced(["linear", "linear"], 5)
    net = networks.RandomNet(("linear", "linear"), 5).double()
    axis = next(a for a in graph.axes() if a.node == "layers_0" and a.ir == "1o")
    removed = np.zeros(graph.blocks.n_classes, bool)
    removed[axis.groups[0]] = True
    graph = graph.replace(keep=graph.blocks.without(removed))
    x = graph.example(seed=2)
    hidden = net.layers[0](x[0])
    start = net.layers[0].irreps_out.slices()[axis.segment].start
    assert hidden[:, start : start + 3].abs().min() > 0
    hidden[:, start : start + 3] = 0
    expected = net.last(net.layers[1](hidden))
    assert torch.equal(graph.masked_reference()(*x), expected)
