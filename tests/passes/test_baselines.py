"""The criteria that are compared with: magnitude, redundancy, activation, random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import nn as enn
from e3nn import o3

from irprune.ops.base import op_of_node
from irprune.passes.criteria.structures import structures
from irprune.passes.score import Score
from irprune.passmanager import PassContext
from irprune.slicing import slice_graph
from tests.handmade import axis, trace, without
from tests.passes import toy


@pytest.fixture(scope="module")
def graph(unscripted):
    return toy.graph()


def score(by, graph, frames=None, seed=0):
    return Score(by=by).run(graph, PassContext(frames=frames, seed=seed)).scores.values


def chain():
    return trace(
        lambda self, x: self.b(self.a(x)),
        {"x": "2x0e+1x1o"},
        a=o3.Linear("2x0e+1x1o", "4x0e+3x1o"),
        b=o3.Linear("4x0e+3x1o", "2x0e+2x1o"),
    )


def test_magnitude_by_its_formula(unscripted):
    g = chain()
    values = score("magnitude", g)
    a, b = (g.gm.get_submodule(n) for n in "ab")
    wa = a.weight[:8].reshape(2, 4) / np.sqrt(2)
    wb = b.weight[:8].reshape(4, 2) / np.sqrt(4)
    expected = (wa**2).sum(0) + (wb**2).sum(1)
    np.testing.assert_allclose(values[list(axis(g, "a:0e").groups)], expected.detach(), rtol=1e-12)


def test_magnitude_sees_through_normalisation(unscripted):
    """Slicing changes every stored weight by a fold, and no effective weight of what stays."""
    g = chain()
    before = score("magnitude", g)[list(axis(g, "a:0e").groups)]
    small = slice_graph(without(g, {"a:0e": [1, 3], "a:1o": [0]}))
    after = score("magnitude", small)[list(axis(small, "a:0e").groups)]
    np.testing.assert_allclose(after, before[[0, 2]], rtol=1e-12)


def test_magnitude_of_hidden_neurons(unscripted):
    net = enn.FullyConnectedNet([3, 4, 2], torch.tanh, variance_in=2, variance_out=3)
    g = trace(lambda self, x: self.net(x), {"x": "3x0e"}, net=net)
    first, second = (layer.weight.detach() for layer in net.children())
    expected = (first**2).sum(0) / (3 * 2) + (second**2).sum(1) * 3 / 4
    values = score("magnitude", g)[list(axis(g, "net.hidden0").groups)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("second", "out", "mode", "pairs"),
    [
        ("2x0e", "5x0e", "uvw", lambda u, v, w: (u * 2 + v) * 5 + w),
        ("2x0e", "3x0e", "uvu", lambda u, v, w: u * 2 + v if u == w else None),
        ("3x0e", "5x0e", "uuw", lambda u, v, w: u * 5 + w if u == v else None),
        ("3x0e", "3x0e", "uvu<v", lambda u, v, w: w if (u, v) == [(0, 1), (0, 2), (1, 2)][w] else None),
    ],
)  # fmt: skip
def test_weights_of_a_product_stand_at_their_units(unscripted, second, out, mode, pairs):
    """Rows of operands and result, from the weight of each (u, v, w) written out."""
    shape = (3, int(second[0]), int(out[0]))
    tp = o3.TensorProduct("3x0e", second, out, [(0, 0, 0, mode, True)], internal_weights=True)
    g = trace(lambda self, x, y: self.tp(x, y), {"x": "3x0e", "y": second}, tp=tp)
    site = next(s for s in g.sites.values() if s.node.op == "call_module")
    rows = op_of_node(site.node, site.module).weight_rows(site)
    effective = tp.weight.detach().numpy() * tp.instructions[0].path_weight
    dense = np.zeros(shape)
    for u, v, w in np.ndindex(*shape):
        if (at := pairs(u, v, w)) is not None:
            dense[u, v, w] = effective[at]
    for axis_, (found,) in enumerate((*rows.operands, rows.out)):
        assert found.shape[0] == shape[axis_]
        expected = np.moveaxis(dense, axis_, 0).reshape(shape[axis_], -1)
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got[got != 0], want[want != 0], rtol=1e-6)
    np.testing.assert_allclose(rows.axes["path"][0][0], effective, rtol=1e-6)


def test_magnitude_says_nothing_where_no_weights_are(unscripted):
    """The orders of the harmonics feed a product whose weights come from outside."""
    g = toy.graph()
    values = score("magnitude", g)
    assert np.isfinite(values[list(axis(g, "embed:0e").groups)]).all()
    assert np.isnan(values[list(axis(g, "sh").groups)]).all()


# ---- redundancy


def distances(rows):
    """Mean distance of each row to the others."""
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    return apart.sum(axis=1) / (len(rows) - 1)


def weights_of(g):
    """Effective weights of the scalars between a and b, [4, 2 inputs + 2 outputs]."""
    a, b = (g.gm.get_submodule(n).weight.detach().numpy() for n in "ab")
    return np.hstack([a[:8].reshape(2, 4).T / np.sqrt(2), b[:8].reshape(4, 2) / np.sqrt(4)])


def redundancy(g, name="a:0e"):
    return score("redundancy", g)[list(axis(g, name).groups)]


def test_redundancy_by_its_formula(unscripted):
    g = chain()
    np.testing.assert_allclose(redundancy(g), distances(weights_of(g)), rtol=1e-12)


def test_the_block_that_others_stand_for_is_the_most_redundant(unscripted):
    """Three channels around their mean, and one far away: the mean goes first, the far one last."""
    g = chain()
    with torch.no_grad():
        for module, shape, dim in (("a", (2, 4), 1), ("b", (4, 2), 0)):
            w = g.gm.get_submodule(module).weight[:8].view(shape)
            middle, off = (x.clone() for x in w.unbind(dim)[:2])
            channels = w.unbind(dim)
            for channel, value in zip(
                channels, (middle, middle + 0.1 * off, middle - 0.1 * off, 9 * off), strict=True
            ):
                channel.copy_(value)
    found = redundancy(g)
    assert found.argmin() == 0
    assert found.argmax() == 3


def test_redundancy_follows_a_permutation_of_channels(unscripted):
    g = chain()
    before = redundancy(g)
    order = [2, 0, 3, 1]
    with torch.no_grad():
        a, b = (g.gm.get_submodule(n).weight for n in "ab")
        a[:8] = a[:8].view(2, 4)[:, order].reshape(-1).clone()
        b[:8] = b[:8].view(4, 2)[order].reshape(-1).clone()
    np.testing.assert_allclose(redundancy(g), before[order], rtol=1e-12)


def test_redundancy_does_not_see_a_rotation_of_the_channels_around(unscripted):
    """An orthogonal mixture of the inputs of a and of the outputs of b changes no distance."""
    g = chain()
    before = redundancy(g)
    q = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    with torch.no_grad():
        a, b = (g.gm.get_submodule(n).weight for n in "ab")
        old = a[:8].clone()
        a[:8] = (q @ a[:8].view(2, 4)).reshape(-1)
        b[:8] = (b[:8].view(4, 2) @ q).reshape(-1)
    assert not torch.allclose(a[:8], old)
    np.testing.assert_allclose(redundancy(g), before, rtol=1e-12)


def test_redundancy_sees_through_normalisation(unscripted):
    """Slicing the inputs changes the factors of e3nn, and the fold keeps what redundancy sees."""
    g = chain()
    small = slice_graph(without(g, {"a:0e": [1]}))
    np.testing.assert_allclose(redundancy(small), distances(weights_of(g)[[0, 2, 3]]), rtol=1e-12)


def test_redundancy_of_one_block_is_the_length_of_its_weights(unscripted):
    small = slice_graph(without(chain(), {"a:0e": [0, 1, 3]}))
    length = np.sqrt(score("magnitude", small)[list(axis(small, "a:0e").groups)])
    np.testing.assert_allclose(redundancy(small), length, rtol=1e-12)


def test_redundancy_of_the_channels_of_a_potential(graph):
    """Channels and neurons have a number; orders and paths have weights that do not compare."""
    values = score("redundancy", graph)
    found = {a.name: values[list(a.groups)] for a in graph.axes()}
    kinds = {a.name: a.kind for a in graph.axes()}
    scored = {kinds[n] for n, v in found.items() if np.isfinite(v).all()}
    assert scored == {"channel", "radial", "scalar"}
    assert {kinds[n] for n, v in found.items() if np.isnan(v).all()} == {"edge", "path"}


# ---- what is left


def test_activation_by_its_formula(graph):
    frames = toy.frames()
    values = score("activation", graph, frames)
    total = np.zeros(3)
    for inputs in structures(graph, frames):
        env = {}

        class Keep(torch.fx.Interpreter):
            def run_node(self, n, env=env):
                env[n.name] = super().run_node(n)
                return env[n.name]

        Keep(graph.gm).run(*inputs.call)
        gated = env["gate"][:, :3].detach().numpy()
        total += 2 * (gated**2).mean(axis=0)  # read twice, by both operands of the square
    name = next(a.name for a in graph.axes() if a.node == "gate" and a.ir == "0e")
    got = values[list(axis(graph, name).groups)]
    np.testing.assert_allclose(got, np.sqrt(total / len(frames)), rtol=1e-10)


def test_random(graph):
    first, again, other = (score("random", graph, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (graph.blocks.n_classes,)
    assert 0 <= first.min() < first.max() < 1
