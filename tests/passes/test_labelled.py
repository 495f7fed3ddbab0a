"""Taylor and Fisher against finite differences of the training loss, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irprune.errors import DataError, UsageError
from irprune.masked import read_plan
from irprune.passes.criteria.labelled import LossGradient
from irprune.passes.score import Score
from irprune.passmanager import PassContext
from irprune.recover.settings import Settings
from tests.passes import toy


@pytest.fixture(scope="module")
def graph(unscripted):
    return toy.graph()


def free(graph):
    return [c for a in graph.axes() for c in a.groups]


def score(graph, frames, **options):
    """Scores of what selection can remove, 0 elsewhere."""
    values = Score(**options).run(graph, PassContext(frames=frames)).scores.values
    out = np.zeros_like(values)
    out[free(graph)] = values[free(graph)]
    return out


BOTH = Settings()


def slopes(graph, frame, weights=BOTH, h=1e-5):
    """∂L/∂z by central differences, for every class that selection can remove, else 0."""
    loss = LossGradient(graph, weights, read_plan(graph, of_value=False))
    n = graph.blocks.n_classes
    out = np.zeros(n)
    for c in free(graph):
        at = []
        for sign in (1, -1):
            z = torch.ones(n, dtype=torch.float64)
            z[c] += sign * h
            at.append(float(loss.loss(frame, z).detach()))
        out[c] = (at[0] - at[1]) / (2 * h)
    return out


@pytest.fixture(scope="module")
def measured(graph):
    """∂L/∂z [frame, class]."""
    return np.array([slopes(graph, frame) for frame in toy.labelled()])


def test_taylor_is_the_squared_mean_slope(graph, measured):
    expected = measured.mean(axis=0) ** 2
    assert expected.max() > 1e-4
    found = score(graph, toy.labelled(), by="taylor")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9 * expected.max())


def test_fisher_is_the_mean_squared_slope(graph, measured):
    expected = (measured**2).mean(axis=0)
    found = score(graph, toy.labelled(), by="fisher")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9 * expected.max())
    assert (expected > measured.mean(axis=0) ** 2 * 1.01).any()


def test_the_slopes_are_those_of_a_loss_that_needs_the_labels(graph):
    frames = toy.labelled(1)
    before = score(graph, frames, by="fisher")
    frames[0].arrays["REF_forces"] = -frames[0].arrays["REF_forces"]
    assert np.abs(score(graph, frames, by="fisher") - before).max() > 1e-6


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"energy_weight": 0.0}, Settings(energy_weight=0.0)),
        (
            {"force_weight": 0.0, "energy_weight": 2.0},
            Settings(energy_weight=2.0, force_weight=0.0),
        ),
    ],
)
def test_weights_of_the_loss(graph, options, weights):
    frames = toy.labelled(1)
    expected = slopes(graph, frames[0], weights) ** 2
    found = score(graph, frames, by="fisher", **options)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9 * expected.max())


def test_energies_alone_are_labels(graph):
    frames = toy.labelled(1)
    with_both = score(graph, frames, by="fisher", force_weight=0.0)
    del frames[0].arrays["REF_forces"]
    np.testing.assert_allclose(score(graph, frames, by="fisher"), with_both, rtol=1e-12)


@pytest.mark.parametrize("by", ["taylor", "fisher"])
def test_structures_without_labels_are_named(graph, by):
    frames = [*toy.labelled(1), *toy.frames(2)]
    with pytest.raises(DataError) as caught:
        score(graph, frames, by=by)
    assert str(caught.value) == (
        f"score{{by={by}}} needs labels, but 2 of 3 structures have neither energy nor forces:"
        " 1 (CHO), 2 (CHO); label them, leave them out, or use by=energy-force, which needs no"
        " labels"
    )


def test_labels_are_not_generated(graph):
    with pytest.raises(UsageError, match=r"^score\{by=taylor\} needs labelled structures, and"):
        score(graph, None, by="taylor")
