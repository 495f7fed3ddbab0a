"""Rounds of score, select, slice and recover, and the options of the command line."""

from __future__ import annotations

import pytest

from irprune.api import prune_pipeline, run_reported
from irprune.cli.main import run
from irprune.errors import UsageError
from tests.families import sevennet_models


def test_the_pipeline_of_a_schedule():
    made = prune_pipeline(keep=0.25, steps=2, recover=3, criterion="magnitude", align=2)
    score = "score{by=magnitude}"
    after = "slice,rewrite-tp,verify,recover{steps=3}"
    first, last = (f"select{{keep={k},align=2,of-original=true}}" for k in (0.5, 0.25))
    assert made.text() == f"{score},{first},{after},{score},{last},{after}"
    one = prune_pipeline(budget="params=27%", steps=3, verify=False).text()
    shares = [part.partition("%")[0] for part in one.split("params=")[1:]]
    assert [float(s) for s in shares] == pytest.approx([64.6330, 41.7743, 27.0], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0.5, "steps": 0}, "steps must be a number of rounds, 1 or more, got 0"),
        (
            {"to": "8x0e", "steps": 2},
            "to=8x0e is one structure, which steps=2 cannot lead to by shares; give keep or a budget"
            " with steps",
        ),
    ],
)
def test_errors(options, message):
    with pytest.raises(UsageError) as caught:
        prune_pipeline(**options)
    assert str(caught.value) == message


def test_a_schedule_ends_at_the_goal(unscripted):
    graph = sevennet_models.small("even-linear-xplor").graph
    pipeline = prune_pipeline(
        budget="params=40%", steps=2, criterion="random", verify=False, axes=("channel", "radial")
    )
    small, report = run_reported(pipeline, graph)
    before = graph.stats().params
    assert abs(small.stats().params / before - 0.4) <= 0.02 * 0.4
    first, last = report.stages()
    assert abs(first["params"] / before - 0.4**0.5) <= 0.02 * 0.4**0.5
    assert last["params"] == small.stats().params
    assert last["select"] == "select{params=40%,axes=[channel,radial],of-original=true}"
    assert not last["recovered"]


def test_blocks_of_the_original(unscripted):
    graph = sevennet_models.small("even-linear-xplor").graph
    small, report = run_reported(
        prune_pipeline(keep=0.4, steps=2, criterion="random", verify=False), graph
    )
    assert abs(small.stats().blocks - 0.4 * graph.stats().blocks) <= 3
    assert report.stages()[0]["blocks"] > small.stats().blocks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--align", "0"], "Invalid value for '--align'"),
        (["--steps", "2", "--to", "8x0e"], "to=8x0e is one structure"),
        (["--scope", "block"], "'block' is not one of 'global', 'layer', 'l', 'axis'"),
        (
            ["--minimum", "0-3", "--criterion", "random", "--no-verify"],
            "error: select: minimum is a number, or one per order as l:n joined by +, such as"
            " 0:16+1:8; got '0-3'",
        ),
        (
            ["--protect", "foo*", "--protect", "1_*", "--criterion", "random"],
            "error: select: protect=foo* matches no axis, tie or layer; axes are ",
        ),
        (["--axes", "channel+paths", "--criterion", "random"], "error: unknown axes paths; known:"),
        (
            ["--axes", "channel+depth", "--criterion", "random"],
            "error: select: depth is no axis to select from: layers have no score that compares with"
            " that of a block; the pass drop-layers removes those without which forces change least:"
            " put drop-layers{count=1} before score",
        ),
        (
            ["--axes", "correlation", "--criterion", "random"],
            "error: select: correlation is no axis to select from: correlation orders go from the"
            " highest down, without a choice; put limit-correlation{order=2} before score",
        ),
        (
            ["--axes", "elements", "--criterion", "random"],
            "error: select: elements is no axis to select from: elements are named, not chosen; put"
            " specialize-elements{elements=[H,O]} after what prunes and trains, or give --elements to"
            " optimize",
        ),
    ],
)
def test_command_line(tmp_path, capsys, options, message):
    path = sevennet_models.small("even-linear-xplor").path
    out = str(tmp_path / "out.pth")
    assert run(["prune", str(path), "-o", out, *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_rounds_keep_the_share_of_what_may_go(unscripted):
    """Protected blocks stay in every round, and are no part of what the fraction is of."""
    graph = sevennet_models.small("even-linear-xplor").graph
    options = {"criterion": "random", "verify": False, "protect": ["layer 0", "embedding"]}
    safe = sum(
        len(a.groups)
        for a in graph.axes()
        if a.kind == "channel" and graph.labels["layer 0"] == a.node
    )
    assert safe > 3
    once, twice, thrice = (
        run_reported(prune_pipeline(keep=0.4, steps=n, **options), graph)[0].stats().blocks
        for n in (1, 2, 3)
    )
    assert abs(once - twice) <= 1
    assert abs(once - thrice) <= 1


@pytest.mark.parametrize("goal", ["params=40%", "flops=30%"])
def test_a_budget_with_edge_lmax_is_met_by_what_is_left_of_both(unscripted, goal):
    graph = sevennet_models.small("parity-nequip-bias").graph
    what = f"select{{{goal},axes=[channel,radial],edge-lmax=1}}"
    small, _ = run_reported(f"score{{by=random}},{what},slice", graph)
    name, _, share = goal.partition("=")
    attribute = {"params": "params", "flops": "flops_per_atom"}[name]
    found = getattr(small.stats(), attribute) / getattr(graph.stats(), attribute)
    assert abs(found - float(share[:-1]) / 100) <= 0.02 * float(share[:-1]) / 100
    left, whole = (max(len(a.groups) for a in g.axes() if a.kind == "edge") for g in (small, graph))
    assert left < whole
