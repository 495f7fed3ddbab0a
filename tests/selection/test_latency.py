"""Budgets on measured time, with a clock that is a function of the structure."""

from __future__ import annotations

import numpy as np
import pytest
from e3nn import o3

from irprune.cost import node_costs
from irprune.errors import LegalityError, UsageError
from irprune.passes.select import Select
from irprune.passmanager import PassContext
from irprune.profile.model import ready
from irprune.scores import Scores
from irprune.selection import Bounds, Pools, stopwatch
from irprune.selection.latency import LatencySearch
from irprune.selection.stopwatch import PairedStopwatch, structure_for
from irprune.slicing import slice_graph
from tests.families import sevennet_models
from tests.handmade import trace


@pytest.fixture(scope="module")
def graph(unscripted):
    """Three layers of 24 scalars and 16 vectors, which are quick to slice."""
    wide = "24x0e+16x1o"
    made = trace(
        lambda self, x: self.d(self.c(self.b(self.a(x)))),
        {"x": "2x0e+1x1o"},
        a=o3.Linear("2x0e+1x1o", wide),
        b=o3.Linear(wide, wide),
        c=o3.Linear(wide, wide),
        d=o3.Linear(wide, "1x0e+1x1o"),
    )
    return scored(made.replace(labels={"first": "a", "second": "b"}))


@pytest.fixture(scope="module")
def potential(unscripted):
    return scored(sevennet_models.small("even-linear-xplor").graph)


def scored(graph):
    values = np.random.default_rng(1).random(graph.blocks.n_classes)
    return graph.replace(scores=Scores(values, "test"))


class Clock:
    """Time as a function of the share of the FLOPs; remembers what was timed."""

    def __init__(self, law, noise=0.0):
        self.law, self.noise = law, noise
        self.calls = []
        self.random = np.random.default_rng(0)

    def __call__(self, original, candidate, rounds):
        share = candidate.stats().flops_per_atom / original.stats().flops_per_atom
        self.calls.append((share, rounds))
        slow = 1.0 + 0.3 * self.random.random(rounds)  # the machine, the same for both
        ratio = self.law(share) * (1 + self.noise * self.random.standard_normal(rounds))
        return list(zip(slow, slow * ratio, strict=True))


LAWS = {
    "proportional": lambda f: f,
    "overhead": lambda f: 0.3 + 0.7 * f,
    "saturating": lambda f: 0.2 + 0.8 * f**0.6,
    "worse than its FLOPs": lambda f: f**2,
}


def solve(graph, clock, share="60%", **options):
    context = PassContext(stopwatch=clock)
    return Select(latency=share, **options).run(graph, context), context.results["latency"][0]


@pytest.mark.parametrize(("name", "share"), zip(LAWS, ("80%", "60%", "60%", "40%"), strict=True))
def test_the_structure_takes_the_time_that_was_asked_for(graph, name, share):
    clock = Clock(LAWS[name])
    chosen, report = solve(graph, clock, share)
    small = slice_graph(chosen)
    flops = small.stats().flops_per_atom / graph.stats().flops_per_atom
    goal = float(share[:-1]) / 100
    assert abs(LAWS[name](flops) - goal) <= 0.02 * goal
    assert report["ratio"] == pytest.approx(LAWS[name](flops), rel=1e-12)
    assert report["irreps"] == small.irreps_per_layer()
    assert len(clock.calls) <= 6


def test_a_latency_model_that_is_right_needs_one_candidate(graph):
    """Time that is no function of the FLOPs, but of the size that the search is given."""

    def bytes_of(g, elements):
        return float(sum(c.params for c in node_costs(g, elements).values())) ** 0.5

    class Bandwidth(Clock):
        def __call__(self, original, candidate, rounds):
            self.calls.append((candidate.stats().params, rounds))
            return [(1.0, bytes_of(candidate, None) / bytes_of(original, None))] * rounds

    clock, whole = Bandwidth(None), Select(latency="50%")
    order = Pools.of(graph, graph.scores, None, ("channel",)).removal_order(Bounds(), "global")
    search = LatencySearch(graph, order, 0.5, clock, whole.rounds, graph, size=bytes_of)
    found = search.find()
    assert abs(found.ratio - 0.5) <= 0.01
    assert [rounds for _, rounds in clock.calls] == [9, 18]
    assert found.size == pytest.approx(found.ratio, rel=1e-6)
    assert found.flops < 0.45
    assert found.to_json()["predicted"] == found.size


def test_few_are_timed_and_the_last_is_confirmed(graph):
    clock = Clock(LAWS["overhead"])
    _, report = solve(graph, clock, rounds=5)
    assert clock.calls[-1] == (clock.calls[-2][0], 10), "the same structure, twice the rounds"
    assert [rounds for _, rounds in clock.calls[:-1]] == [5] * (len(clock.calls) - 1)
    # a line through the first and the original meets this law at once
    assert len({share for share, _ in clock.calls}) <= 3
    assert len(report["timed"]) == len(clock.calls)
    assert len(report["ratios"]) == 10


def test_quartiles_and_the_same_choice_for_the_same_times(graph):
    chosen, report = solve(graph, Clock(LAWS["overhead"], noise=0.05), rounds=25)
    again, other = solve(graph, Clock(LAWS["overhead"], noise=0.05), rounds=25)
    assert (chosen.keep == again.keep).all()
    assert report == other
    q1, median, q3 = np.quantile(report["ratios"], [0.25, 0.5, 0.75])
    assert (report["q1"], report["ratio"], report["q3"]) == pytest.approx((q1, median, q3))
    assert q1 < median < q3
    assert abs(median - 0.6) <= 0.02 * 0.6


def test_more_rounds_where_the_times_are_noisy(graph):
    """Until the median is known to half of the tolerance; what is far off is not timed for longer."""
    clock = Clock(LAWS["overhead"], noise=0.04)
    _, report = solve(graph, clock, rounds=4)
    rounds = {}
    for share, n in clock.calls:
        rounds[share] = rounds.get(share, 0) + n
    first, last = clock.calls[0][0], clock.calls[-1][0]
    assert rounds[first] <= 8, "0.72 is not 0.6"
    assert rounds[last] > 12
    q1, q3 = report["q1"], report["q3"]
    assert 0.93 * (q3 - q1) / len(report["ratios"]) ** 0.5 <= 0.5 * 0.02 * 0.6
    assert abs(LAWS["overhead"](last) - 0.6) <= 0.04 * 0.6


def test_a_confirmation_that_fails_is_not_accepted(graph):
    """The first time that a structure is timed says 0.6 whatever it is."""

    class Lucky(Clock):
        def __call__(self, original, candidate, rounds):
            first = not self.calls
            found = super().__call__(original, candidate, rounds)
            return [(1.0, 0.6)] * rounds if first else found

    clock = Lucky(LAWS["overhead"])
    chosen, _ = solve(graph, clock)
    flops = slice_graph(chosen).stats().flops_per_atom / graph.stats().flops_per_atom
    assert abs(LAWS["overhead"](flops) - 0.6) <= 0.02 * 0.6
    assert clock.calls[0][0] == clock.calls[1][0] != clock.calls[-1][0]


def test_a_first_time_that_misleads(graph):
    """Half of the FLOPs seem slower than all of them: the search goes on downwards."""

    class Busy(Clock):
        def __call__(self, original, candidate, rounds):
            first = not self.calls
            found = super().__call__(original, candidate, rounds)
            return [(1.0, 1.1)] * rounds if first else found

    clock = Busy(lambda f: 1.2 * f)
    solve(graph, clock)
    shares = [share for share, _ in clock.calls]
    assert shares[1] < 0.7 * shares[0]


def test_a_time_that_cannot_be_met(graph):
    with pytest.raises(LegalityError) as caught:
        solve(graph, Clock(lambda f: 0.7 + 0.3 * f), "60%")
    assert str(caught.value).startswith(
        "select: latency=60.0% cannot be met: the smallest legal structure takes 0.7"
    )
    assert "with 1x0e+1x1o in first to second" in str(caught.value)


def test_a_time_that_jumps(graph):
    """No structure takes between 0.4 and 0.8: both sides are named."""
    with pytest.raises(LegalityError) as caught:
        solve(graph, Clock(lambda f: 0.8 + 0.2 * f if f > 0.5 else 0.4 * f), "60%")
    text = str(caught.value)
    assert text.startswith("select: no structure was measured at 0.600 of the time of the original")
    assert text.count(" of the time (quartiles ") == 2
    assert "; ask for one of these, choose from more kinds of axes, or give more rounds" in text


def test_all_of_the_time_needs_nothing_to_go(graph):
    chosen, report = solve(graph, Clock(LAWS["proportional"]), "100%")
    assert chosen.keep.all() or report["ratio"] > 0.99


@pytest.mark.parametrize("option", ["rounds", "atoms"])
def test_option_errors(graph, option):
    with pytest.raises(UsageError) as caught:
        solve(graph, Clock(LAWS["overhead"]), **{option: 0})
    assert str(caught.value) == f"select: {option} must be 1 or more, got 0"


def test_latency_needs_atoms(graph):
    with pytest.raises(UsageError) as caught:
        structure_for(graph, None, 8)
    assert str(caught.value) == (
        "select: latency= needs an interatomic potential, which can be timed on atoms; for this"
        " network use params= or flops="
    )


def test_what_is_timed_again_is_not_made_ready_again(potential, monkeypatch):
    made = []
    monkeypatch.setattr(stopwatch, "ready", lambda g, atoms: made.append(g) or ready(g, atoms))
    watch = PairedStopwatch(structure_for(potential, None, 2))
    one, other = (slice_graph(Select(keep=k).run(potential, PassContext())) for k in (0.6, 0.4))
    for candidate in (one, one, other, other):
        watch(potential, candidate, 1)
    assert made == [potential, one, other]
    assert watch.predicted(potential, None) > watch.predicted(one, None) > 0


@pytest.mark.parametrize("optimized", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_stopwatch_times_both_in_turn(potential, optimized):
    """A clock that counts its own readings: every call takes one, whatever it does."""
    ticks = iter(range(1000))
    watch = PairedStopwatch(
        structure_for(potential, None, 2), optimized, lambda: float(next(ticks))
    )
    small = slice_graph(Select(keep=0.5).run(potential, PassContext()))
    assert list(watch(potential, small, 3)) == [(1.0, 1.0)] * 3
    assert next(ticks) == 12
    assert list(watch(potential, small, 1)) == [(1.0, 1.0)]


class Registers(Clock):
    """Vectors take the time of the next multiple of eight, scalars that of their number."""

    def __call__(self, original, candidate, rounds):
        share = self.of(candidate) / self.of(original)
        self.calls.append((share, rounds))
        return [(1.0, share)] * rounds

    def of(self, graph):
        outs = [s for name in ("a", "b", "c") for s in graph.sites[name].out.segments]
        return sum(-(-s.mul // 8) * 8 if s.l == 1 else s.mul for s in outs)


@pytest.mark.parametrize("goal", [0.44, 0.57, 0.7])
def test_a_jump_is_passed_beside(graph, goal):
    """From 9 to 8 vectors, which two layers share, 0.608 becomes 0.542: more scalars make up for it."""
    order = Pools.of(graph, graph.scores, None, ("channel",)).removal_order(Bounds(), "global")
    search = LatencySearch(graph, order, goal, Registers(None), 9, graph)
    found = search.find()
    assert abs(found.ratio - goal) <= 0.02 * goal
    assert len(search.timed) <= 13
    # pools are still emptied in their order, and what crosses the jump goes first
    ahead = search.order[: len(search.gone)]
    assert set(ahead) == search.gone <= set(found.found.steps)
    for pool in {s.pool for s in order}:
        assert [s for s in search.order if s.pool == pool] == [s for s in order if s.pool == pool]


def test_without_what_crosses_the_jump_there_is_none(graph, monkeypatch):
    monkeypatch.setattr(LatencySearch, "_beside_the_jump", lambda self: False)
    order = Pools.of(graph, graph.scores, None, ("channel",)).removal_order(Bounds(), "global")
    with pytest.raises(LegalityError, match=r"no structure was measured at 0\.570"):
        LatencySearch(graph, order, 0.57, Registers(None), 9, graph).find()
