"""Scopes, minima per order, alignment and protection; and what random choices have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from irprune.errors import LegalityError, UsageError
from irprune.passes.select import Select
from irprune.passmanager import PassContext, Pipeline
from irprune.scores import Scores
from irprune.selection import Bounds, Pools, choose_fraction, kept_after, read_minimum
from irprune.slicing import slice_graph
from irprune.targets import legal_for
from irprune.verification.ladder import compare_on_examples
from tests.families import sevennet_models
from tests.families.mace_models import STYLES, build, without_torchscript  # noqa: F401

MODELS = ("parity-nequip-bias", "mp", "heads")


@pytest.fixture(scope="module")
def graphs(without_torchscript):  # noqa: F811
    from irprune.families.mace import MaceFamily
    from irprune.families.mace.load import wrap
    from irprune.families.trace import trace_family

    made = {}
    for name in MODELS:
        if name in STYLES:
            made[name] = trace_family(
                MaceFamily(), wrap(build(**{**STYLES[name], "correlation": 2}), "")
            )
        else:
            made[name] = sevennet_models.small(name).graph
            made[name] = made[name].replace(gm=made[name].module(torch.float64))
    return made


def scored(graph, seed=0):
    values = np.random.default_rng(seed).random(graph.blocks.n_classes)
    return graph.replace(scores=Scores(values, "test"))


def chosen(graph, seed=0, target="auto", **options):
    return Select(**options).run(scored(graph, seed), PassContext(target=target))


def left(graph, name, keep=None):
    (found,) = [a for a in graph.axes() if a.name == name]
    return int((graph.keep if keep is None else keep)[list(found.groups)].sum())


# Scopes


def test_the_same_share_of_every_layer(graphs):
    graph = graphs["parity-nequip-bias"]
    pools = Pools.of(graph, scored(graph).scores, legal_for(graph, "graph"), ("channel",))
    steps = choose_fraction(pools.removal_order(Bounds(), "layer"), pools, 0.5)
    layers = set(pools.layers.values())
    assert {"0", "1"} < layers
    for layer in layers:
        total = sum(s.weight for s in pools.steps if pools.layers[s.pool] == layer)
        gone = sum(s.weight for s in steps if pools.layers[s.pool] == layer)
        assert abs(gone - 0.5 * total) <= 1.5, layer
    globally = choose_fraction(pools.removal_order(Bounds(), "global"), pools, 0.5)
    assert set(globally) != set(steps)


def test_what_is_tied_over_layers_is_a_layer_of_its_own(graphs):
    """The widths of all radial networks are one list: no share of the first layer's."""
    graph = graphs["parity-nequip-bias"]
    legal = legal_for(graph, "native:sevennet")
    pools = Pools.of(graph, scored(graph).scores, legal, ("channel", "radial"))
    radial = [p for p in pools.members if p.startswith("radial hidden")]
    assert radial
    assert all(pools.layers[p] == p for p in radial)
    assert {"0", "1"} < set(pools.layers.values())


def test_the_same_share_of_every_order(graphs):
    graph = graphs["parity-nequip-bias"]
    pools = Pools.of(graph, scored(graph).scores, None, ("channel",))
    steps = choose_fraction(pools.removal_order(Bounds(), "l"), pools, 0.5)
    axes = {p: m[0][0] for p, m in pools.members.items()}
    for order in "012":
        mine = {p for p, a in axes.items() if a.ir[0] == order}
        total = sum(s.blocks for s in pools.steps if s.pool in mine)
        assert abs(sum(s.blocks for s in steps if s.pool in mine) - 0.5 * total) <= 1.5, order


@pytest.mark.parametrize("scope", ["layer", "l"])
def test_within_a_share_the_least_important_go_first(graphs, scope):
    graph = graphs["parity-nequip-bias"]
    pools = Pools.of(graph, scored(graph).scores, None, ("channel",))
    order = pools.removal_order(Bounds(0), scope)
    keys = {p: pools._key(p, scope) for p in pools.sizes}
    for key in set(keys.values()):
        scores = [s.score for s in order if keys[s.pool] == key]
        assert scores == sorted(scores)
        assert len(scores) > 1


# Minima, alignment, protection


def test_minimum_by_order(graphs):
    graph = graphs["parity-nequip-bias"]
    small = chosen(graph, keep=0.05, minimum="0:5+1:3", target="graph")
    counts = {a.name: (a.ir, left(small, a.name)) for a in graph.axes() if a.kind == "channel"}
    had = {a.name: len(a.groups) for a in graph.axes()}
    for name, (ir, n) in counts.items():
        assert n == min(had[name], {"0": 5, "1": 3}.get(ir[0], 1)), name


def test_read_minimum():
    assert read_minimum(3) == (3, {})
    assert read_minimum("0:16+1:8") == (1, {0: 16, 1: 8})
    text = 'select{keep=0.5,minimum=0:16+1:8,align=8,protect=[a*,"layer 1"]}'
    assert Pipeline.parse(text).text() == text
    assert Pipeline.from_yaml(Pipeline.parse(text).to_yaml()).text() == text


def test_alignment_forces_what_is_no_multiple(graphs):
    """A whole axis of 8 is no multiple of 3: two go though all may stay."""
    graph = graphs["mp"]
    small = chosen(graph, keep=1.0, align=3)
    assert {left(small, a.name) for a in graph.axes() if a.kind == "channel"} == {6}
    with pytest.raises(LegalityError) as caught:
        chosen(graph, keep=1.0, align=7)
    assert str(caught.value) == (
        "select: align=7 cannot be met in readout: no multiple of 7 can stay of 6 groups of"
        " readouts.1.non_linearity:0e (at least 1 stays); lower align or minimum, or protect the"
        " axis: protect=[readouts.1.non_linearity:0e]"
    )
    small = chosen(graph, keep=1.0, align=7, protect=("readouts*",))
    assert left(small, "node_embedding.linear:0e") == 7
    assert left(small, "readouts.1.non_linearity:0e") == 6


def test_protected_by_axis_tie_and_layer(graphs):
    graph = graphs["parity-nequip-bias"]
    gate, mixing = "0_equivariant_gate.gate:1o", "1_self_interaction_1.linear:1o"
    names = {a.name for a in graph.axes()}
    assert {gate, mixing} <= names
    for pattern in (gate, "layer 0 1o", "layer 0", "0_equivariant_gate*"):
        small = chosen(graph, keep=0.3, protect=(pattern,))
        sizes = {a.name: len(a.groups) for a in graph.axes()}
        assert left(small, gate) == sizes[gate]
        assert left(small, mixing) == sizes[mixing], "its tie is protected as well"
        assert left(small, "onehot_to_feature_x.linear:0e") < sizes["onehot_to_feature_x.linear:0e"]


def test_everything_protected(graphs):
    with pytest.raises(UsageError) as caught:
        chosen(graphs["mp"], keep=0.5, protect=("*",))
    assert str(caught.value).startswith("nothing to select: no free axis of kind channel")


# Orders of a native target


def test_orders_go_from_the_top_where_the_target_ties_them(graphs):
    graph = graphs["mp"]
    for keep, orders in ((0.75, 3), (0.25, 1)):
        small = slice_graph(chosen(graph, keep=keep, axes=("edge",)))
        assert [s.l for s in small.type_of("model_spherical_harmonics")] == list(range(orders))
        assert [s.l for s in small.type_of("model_interactions_0_reshape")] == list(range(orders))


# Whatever is chosen


def ties_hold(graph, keep):
    for tie in legal_for(graph, "auto").ties:
        axes = {a.name: a for a in graph.axes()}
        gone = {
            (len(axes[n].groups) - left(graph, n, keep)) / per
            for n, per in tie.members
            if n in axes
        }
        if len(gone) > 1:  # sizes that differ from the start
            sizes = {len(axes[n].groups) / per for n, per in tie.members if n in axes}
            assert len(sizes) > 1, tie.label


@settings(max_examples=6, derandomize=True, phases=(Phase.explicit, Phase.generate))
@given(
    name=st.sampled_from(MODELS),
    seed=st.integers(0, 10_000),
    keep=st.sampled_from([0.2, 0.5, 0.8]),
    scope=st.sampled_from(["global", "layer", "l", "axis"]),
    align=st.sampled_from([1, 2]),
    minimum=st.sampled_from([1, 2, "0:4+1:2"]),
    native=st.booleans(),
)
def test_every_choice_is_legal_and_exact(graphs, name, seed, keep, scope, align, minimum, native):
    graph = graphs[name]
    kinds = ("channel", "radial") if native else ("channel", "radial", "path", "edge", "order")
    options = {"keep": keep, "scope": scope, "align": align, "minimum": minimum, "axes": kinds}
    if minimum == "0:4+1:2" and name == "mp":
        options["minimum"] = "0:4"
    try:
        masked = chosen(graph, seed, "auto" if native else "graph", **options)
    except LegalityError as error:
        # an axis of one group has no multiple of two
        if "align=2 cannot be met" in str(error):
            return
        raise
    small = slice_graph(masked)
    if native:
        ties_hold(graph, masked.keep)
    have = {a.name: len(a.groups) for a in graph.axes()}
    kept = {a.name: left(masked, a.name) for a in graph.axes()}
    wanted, by_order = read_minimum(options["minimum"])
    for axis in graph.axes():
        if kept[axis.name] == have[axis.name] or axis.kind not in kinds:
            continue
        least = by_order.get(int(axis.ir[0]), wanted) if axis.ir[0].isdigit() else wanted
        assert kept[axis.name] >= min(have[axis.name], least), axis.name
        if axis.kind in ("channel", "radial"):
            assert kept[axis.name] % align == 0, axis.name
    reference = small.masked_reference()
    assert compare_on_examples(small, reference, small.module(torch.float64)) <= 1e-10


def test_kept_after_is_closed(graphs):
    graph = graphs["heads"]
    pools = Pools.of(graph, scored(graph).scores, legal_for(graph, "auto"), ("channel",))
    keep = kept_after(graph, pools.removal_order(Bounds(2), "layer")[:3])
    assert (graph.blocks.close(keep.copy()) == keep).all()
