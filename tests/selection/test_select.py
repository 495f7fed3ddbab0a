"""Which steps go: fractions, budgets, ties, minima, and what cannot be met."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import nn as enn
from e3nn import o3

from irprune.cost import graph_stats
from irprune.dead import eliminate_dead
from irprune.errors import LegalityError, UsageError
from irprune.families.base import Legal, OrderTie, Tie
from irprune.passes.select import Select, percent
from irprune.passmanager import PassContext
from irprune.scores import Scores
from irprune.selection import (
    KINDS,
    Bounds,
    Pools,
    choose_budget,
    choose_counts,
    choose_fraction,
    cut_orders,
    kept_after,
)
from irprune.slicing import slice_graph
from tests.handmade import axis, trace


@pytest.fixture(scope="module")
def graph(unscripted):
    """Two layers of 6 and 8 scalars and 4 vectors each, and a radial network."""
    return trace(
        lambda self, x, y: torch.cat([self.c(self.b(self.a(x))), self.net(y)], dim=1),
        {"x": "2x0e+1x1o", "y": "2x0e"},
        a=o3.Linear("2x0e+1x1o", "6x0e+4x1o"),
        b=o3.Linear("6x0e+4x1o", "8x0e+4x1o"),
        c=o3.Linear("8x0e+4x1o", "1x0e+1x1o"),
        net=enn.FullyConnectedNet([2, 5, 1], torch.tanh),
    )


def scored(graph, seed=0):
    values = np.random.default_rng(seed).random(graph.blocks.n_classes)
    return Scores(values, "test")


def left(graph, keep, name):
    return int(keep[list(axis(graph, name).groups)].sum())


ALL = ("a:0e", "a:1o", "b:0e", "b:1o")


@pytest.mark.parametrize("scope", ["global", "axis"])
@pytest.mark.parametrize("keep", [1.0, 0.9, 0.5, 0.25, 0.2])
def test_fraction_is_met_within_a_step(graph, keep, scope):
    pools = Pools.of(graph, scored(graph), None, ("channel",))
    order = pools.removal_order(Bounds(1), scope)
    mask = kept_after(graph, choose_fraction(order, pools, keep))
    blocks = sum(left(graph, mask, n) for n in ALL)
    assert abs(blocks - keep * 22) <= 1
    if scope == "axis":
        for name in ALL:
            size = len(axis(graph, name).groups)
            assert abs(left(graph, mask, name) - keep * size) <= 1


def test_the_least_important_go_first(graph):
    scores = scored(graph)
    pools = Pools.of(graph, scores, None, ("channel",))
    mask = kept_after(graph, choose_fraction(pools.removal_order(Bounds(1), "global"), pools, 0.5))
    groups = [g for n in ALL for g in axis(graph, n).groups]
    gone = [scores.values[g] for g in groups if not mask[g]]
    stay = [scores.values[g] for g in groups if mask[g]]
    assert len(gone) == 11
    assert max(gone) < min(stay)


@pytest.mark.parametrize("minimum", [1, 2, 4])
def test_minimum_is_respected(graph, minimum):
    pools = Pools.of(graph, scored(graph), None, ("channel",))
    mask = kept_after(graph, pools.removal_order(Bounds(minimum), "global"))
    assert [left(graph, mask, n) for n in ALL] == [minimum] * 4


def test_order_of_removal_is_monotone_within_a_pool(graph):
    """Negative and falling scores must not reorder the steps of a tie."""
    members = (("a:0e", 1), ("b:0e", 2))
    scores = scored(graph)
    scores.values[list(axis(graph, "b:0e").groups)] = -np.arange(8.0)
    legal = Legal("native:test", ties=(Tie("k", members),))
    pools = Pools.of(graph, scores, legal, ("channel",))
    order = [s for s in pools.removal_order(Bounds(0), "global") if s.pool == "k"]
    assert [pools.steps.index(s) for s in order] == sorted(pools.steps.index(s) for s in order)
    mine = [s for s in pools.steps if s.pool == "k"]
    assert order == mine
    assert [s.blocks for s in mine] == [3] * 4


def test_ties_move_in_step(graph):
    legal = Legal("native:test", ties=(Tie("k", (("a:1o", 1), ("b:0e", 2), ("b:1o", 1))),))
    pools = Pools.of(graph, scored(graph), legal, ("channel",))
    assert pools.sizes == {"k": 4, "a:0e": 6}
    order = pools.removal_order(Bounds(1), "global")
    for n in range(len(order) + 1):
        mask = kept_after(graph, order[:n])
        k = left(graph, mask, "a:1o")
        assert (left(graph, mask, "b:0e"), left(graph, mask, "b:1o")) == (2 * k, k)


def test_a_tie_scores_the_sum_of_its_members(graph):
    scores = scored(graph)
    legal = Legal("native:test", ties=(Tie("k", (("a:1o", 1), ("b:1o", 1))),))
    pools = Pools.of(graph, scores, legal, ("channel",))
    first = next(s for s in pools.steps if s.pool == "k")
    lowest = [min(scores.values[list(axis(graph, n).groups)]) for n in ("a:1o", "b:1o")]
    assert first.score == pytest.approx(sum(lowest), rel=1e-15)


def test_frozen_and_ordered_axes_are_left_alone(graph):
    legal = Legal("native:test", frozen=("a:0e",), orders=(OrderTie("l", ("b:1o",)),))
    pools = Pools.of(graph, scored(graph), legal, ("channel",))
    assert set(pools.sizes) == {"a:1o", "b:0e"}


def test_kinds(graph):
    pools = Pools.of(graph, scored(graph), None, ("radial",))
    assert pools.sizes == {"net.hidden0": 5}
    with pytest.raises(UsageError) as caught:
        Pools.of(graph, scored(graph), None, ("channel", "width", "deep"))
    assert str(caught.value) == f"unknown axes deep, width; known: {', '.join(KINDS)}"
    with pytest.raises(UsageError) as caught:
        Pools.of(graph, scored(graph), None, ("path",))
    assert str(caught.value) == "nothing to select: no free axis of kind path in this graph"
    legal = Legal("native:test", frozen=ALL)
    with pytest.raises(UsageError) as caught:
        Pools.of(graph, scored(graph), legal, ("channel",))
    assert str(caught.value) == (
        "nothing to select: no free axis of kind channel in this graph for target native:test"
    )


def test_a_missing_score_is_an_error(graph):
    scores = scored(graph)
    scores.values[axis(graph, "a:1o").groups[2]] = np.nan
    with pytest.raises(UsageError) as caught:
        Pools.of(graph, scores, None, ("channel",))
    assert str(caught.value) == (
        "criterion 'test' gives no score for a:1o; score with energy-force, magnitude or random to"
        " select there"
    )


def params_after(graph, steps):
    keep = eliminate_dead(graph, kept_after(graph, steps))
    return graph_stats(graph, graph.blocks.elements(keep)).params


@pytest.mark.parametrize("share", [1.0, 0.8, 0.5, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_budget_is_met_within_two_percent(graph, share, seed):
    pools = Pools.of(graph, scored(graph, seed), None, ("channel", "radial"))
    order = pools.removal_order(Bounds(1), "global")
    limit = share * graph.stats().params
    steps = choose_budget(graph, order, lambda s: s.params, limit, "parameters")
    assert abs(params_after(graph, steps) - limit) <= 0.02 * limit
    for pool in pools.sizes:  # the least important of every pool
        mine = [s for s in pools.steps if s.pool == pool]
        gone = [s for s in mine if s in set(steps)]
        assert gone == mine[: len(gone)]
    small = slice_graph(graph.replace(keep=kept_after(graph, steps)))
    assert small.stats().params == params_after(graph, steps)


def test_impossible_budget(graph):
    pools = Pools.of(graph, scored(graph), None, ("channel",))
    order = pools.removal_order(Bounds(1), "global")
    least = params_after(graph, order)
    with pytest.raises(UsageError) as caught:
        choose_budget(graph, order, lambda s: s.params, 0.9 * least, "parameters")
    assert str(caught.value) == (
        f"a budget of {0.9 * least:.4g} parameters cannot be met: the smallest legal structure has"
        f" {least:.4g} ({least / graph.stats().params:.1%}: 1 of a:0e, 1 of a:1o, 1 of b:0e, 1 of b:1o,"
        " 5 of net.hidden0)"
    )
    assert choose_budget(graph, order, lambda s: s.params, least, "parameters")


def test_a_budget_above_all_that_may_stay(graph):
    """Asked for more than is there: nothing goes, and that is not what was asked for."""
    pools = Pools.of(graph, scored(graph), None, ("channel",))
    order = pools.removal_order(Bounds(), "global")
    whole = graph.stats().params
    with pytest.raises(LegalityError) as caught:
        choose_budget(graph, order, lambda s: s.params, 1.1 * whole, "parameters")
    assert str(caught.value).startswith(
        f"a budget of {1.1 * whole:.4g} parameters cannot be met: all that may stay has only {whole} ("
    )
    assert str(caught.value).endswith("; ask for no more than that")
    assert choose_budget(graph, order, lambda s: s.params, 1.01 * whole, "parameters") == []


@pytest.mark.parametrize(("option", "value"), [("axes", ("radial",)), ("scope", "axis")])
def test_a_structure_leaves_nothing_to_choose(graph, option, value):
    with pytest.raises(UsageError, match=rf"to=8x0e says .*, so {option} cannot be given as well"):
        Select(to="8x0e", **{option: value})._refuse_bounds()


def test_counts(graph):
    scores = scored(graph)
    mask = choose_counts(graph, scores, {"a:0e": 2, "b:1o": 3})
    assert [left(graph, mask, n) for n in ALL] == [2, 4, 8, 3]
    groups = np.array(axis(graph, "a:0e").groups)
    best = set(groups[np.argsort(scores.values[groups])[-2:]])
    assert {g for g in groups if mask[g]} == best


@pytest.mark.parametrize(
    ("name", "count", "have"), [("a:0e", 7, 6), ("b:2e", 1, 0)], ids=["larger", "no such axis"]
)
def test_counts_larger_than_the_model(graph, name, count, have):
    with pytest.raises(LegalityError) as caught:
        choose_counts(graph, scored(graph), {name: count})
    assert str(caught.value) == f"cannot keep {count} groups of {name}, which has {have}"


def test_order_cut(unscripted):
    graph = trace(
        lambda self, x, edge_vec: self.tp(x, self.sh(edge_vec)),
        {"x": "edge:2x0e", "edge_vec": "1x1o"},
        sh=o3.SphericalHarmonics([0, 1, 2, 3], True),
        tp=o3.FullyConnectedTensorProduct("2x0e", "0e+1o+2e+3o", "1x0e+1x1o+1x2e+1x3o"),
    )
    for lmax, irreps in (
        (0, "1x0e"),
        (1, "1x0e+1x1o"),
        (2, "1x0e+1x1o+1x2e"),
        (3, None),
        (9, None),
    ):
        keep = graph.blocks.without(cut_orders(graph, None, lmax))
        small = slice_graph(graph.replace(keep=keep))
        assert small.type_of("sh").irreps == (irreps or "1x0e+1x1o+1x2e+1x3o")


def test_order_cut_without_edges(graph):
    with pytest.raises(UsageError) as caught:
        cut_orders(graph, None, 1)
    assert str(caught.value) == "edge-lmax: this graph has no edge attributes whose orders can go"


@pytest.mark.parametrize("text", ["50", "0%", "101%", "-3%", "half%", "%", "nan%"])
def test_percent_errors(text):
    with pytest.raises(UsageError) as caught:
        percent(text, "params")
    assert str(caught.value) == (f"select: params must be a percentage in (0%, 100%], got {text!r}")


def test_percent():
    assert (percent("50%", "params"), percent("100%", "params"), percent("0.5%", "x")) == (
        0.5, 1.0, 0.005,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "select needs exactly one of keep, to, params, flops, latency; got none"),
        (
            {"keep": 0.5, "params": "50%"},
            "select needs exactly one of keep, to, params, flops, latency; got keep, params",
        ),
        ({"keep": 0.0}, "select: keep must be a fraction in (0, 1], got 0"),
        ({"keep": 1.5}, "select: keep must be a fraction in (0, 1], got 1.5"),
        (
            {"keep": 0.5, "scope": "block"},
            "select: scope is one of global, layer, l, axis, got 'block'",
        ),
        ({"keep": 0.5, "minimum": -1}, "select: minimum must be 0 or more, got -1"),
        ({"keep": 0.5, "align": 0}, "select: align must be 1 or more, got 0"),
        (
            {"keep": 0.5, "minimum": "0:4,1:2"},
            "select: minimum is a number, or one per order as l:n joined by +, such as 0:16+1:8; got"
            " '0:4,1:2'",
        ),
        ({"keep": 0.5, "minimum": "0:4+0:2"}, "select: minimum=0:4+0:2 names an order twice"),
        (
            {"keep": 0.5, "minimum": "0:4+2:2"},
            "select: minimum names l = 2, which no axis has; this graph has l = 0, 1",
        ),
        (
            {"keep": 0.5, "align": 5},
            "select: align=5 cannot be met in a:1o: no multiple of 5 can stay of 4 groups of a:1o (at"
            " least 1 stays); lower align or minimum, or protect the axis: protect=[a:1o]",
        ),
        (
            {"keep": 0.5, "protect": ("a:*", "c*")},
            "select: protect=c* matches no axis, tie or layer; axes are a:0e, a:1o, b:0e, b:1o and 1"
            " more (irprune show --groups lists all)",
        ),
        (
            {"to": "4x0e", "align": 2, "protect": ("a:*",)},
            "select: to=4x0e says what every layer keeps, so align and protect cannot be given as"
            " well; leave out one of them",
        ),
        ({"edge_lmax": -1}, "select: edge-lmax must be 0 or more, got -1"),
        (
            {"to": "4x0e"},
            "to=4x0e needs a family that knows its layers; for a traced network use keep=, params="
            " or flops=",
        ),
    ],
)
def test_select_errors(graph, options, message):
    with pytest.raises(UsageError) as caught:
        Select(**options).run(graph.replace(scores=scored(graph)), PassContext())
    assert str(caught.value) == message


def test_select_needs_scores(graph):
    with pytest.raises(UsageError) as caught:
        Select(keep=0.5).run(graph, PassContext())
    assert str(caught.value) == "select needs scores; run score first"


def test_select_flops(graph):
    chosen = Select(flops="60%", axes=("channel", "radial")).run(
        graph.replace(scores=scored(graph)), PassContext()
    )
    small = slice_graph(chosen)
    assert small.stats().flops_per_atom <= 0.6 * graph.stats().flops_per_atom
