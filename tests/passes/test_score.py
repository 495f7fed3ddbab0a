"""Importance: the energy-force sensitivity against its definition, and the baselines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import nn as enn
from e3nn import o3

from irprune.errors import DataError, UsageError
from irprune.masked import MultipliedInterpreter, read_plan
from irprune.passes import criteria
from irprune.passes.score import Score
from irprune.passmanager import PassContext
from irprune.slicing import slice_graph
from tests.handmade import axis, trace, without
from tests.passes import toy


@pytest.fixture(scope="module")
def graph(unscripted):
    return toy.graph()


def free(graph):
    """Classes that selection can remove."""
    return np.array([c for a in graph.axes() for c in a.groups])


def energy_and_gradient(graph, inputs, z):
    """E [], ∂E/∂x [N, 3] at multipliers z."""
    plan = read_plan(graph, of_value=False)
    energy = MultipliedInterpreter(graph, plan, z).run(*inputs.call).sum()
    (gradient,) = torch.autograd.grad(energy, inputs.positions, create_graph=True)
    return energy, gradient


def differences(graph, inputs, h=1e-5):
    """Central differences of E and of the forces, class by class."""
    n = graph.blocks.n_classes
    by_energy, by_force = np.zeros(n), np.zeros((n, inputs.positions.numel()))
    for c in range(n):
        at = []
        for sign in (1, -1):
            z = torch.ones(n, dtype=torch.float64)
            z[c] += sign * h
            at.append([t.detach() for t in energy_and_gradient(graph, inputs, z)])
        by_energy[c] = (at[0][0] - at[1][0]) / (2 * h)
        by_force[c] = (at[0][1] - at[1][1]).flatten() / (2 * h)
    return by_energy, by_force


@pytest.fixture(scope="module")
def measured(graph):
    """Finite differences on each frame."""
    return [
        (inputs.n_atoms, *differences(graph, inputs))
        for inputs in criteria.structures(graph, toy.frames())
    ]


def test_energy_term_is_the_squared_derivative(graph, measured):
    values, detail = criteria.energy_force(graph, toy.frames(), force_weight=0.0)
    expected = np.mean([(e / n) ** 2 for n, e, _ in measured], axis=0)
    assert expected[free(graph)].max() > 1e-4
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-12)
    assert detail == {
        "structures": 2, "left_out": 0, "max_force": 50.0, "probes": 2, "seed": 0,
    }  # fmt: skip


def test_frames_with_large_forces_are_left_out(graph):
    _, detail = criteria.energy_force(graph, toy.frames(), max_force=1e6)
    assert (detail["structures"], detail["left_out"]) == (2, 0)
    with pytest.raises(DataError, match=r"^score: all 2 structures have a force above 1e-09 eV/Å"):
        criteria.energy_force(graph, toy.frames(), max_force=1e-9)


def test_force_term_is_unbiased(graph, measured):
    """Over many probes the estimate meets ‖∂F/∂z‖²/3N within three standard errors."""
    exact = np.mean([(f**2).sum(axis=1) / (3 * n) for n, _, f in measured], axis=0)
    runs = np.array(
        [
            criteria.energy_force(graph, toy.frames(), energy_weight=0.0, probes=4, seed=s)[0]
            for s in range(25)
        ]
    )
    scale = exact.max()
    standard_error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
    assert standard_error.max() / scale < 0.1
    dead = [axis(graph, "sh").groups[2], axis(graph, "tp.path").groups[2]]  # mix reads no 2e
    assert exact[dead].tolist() == [0, 0]
    assert exact[np.setdiff1d(free(graph), dead)].min() / scale > 1e-8
    outside = np.abs(runs.mean(axis=0) - exact) > 3 * standard_error + 1e-9 * scale
    assert outside.mean() < 0.05


def test_force_term_with_all_sign_vectors_is_exact(graph, measured, monkeypatch):
    """Rows of a Hadamard-like set: averaged over all 2^3N sign vectors nothing is left to chance."""
    (inputs,) = criteria.structures(graph, toy.frames(1))
    z = torch.ones(graph.blocks.n_classes, dtype=torch.float64, requires_grad=True)
    _, gradient = energy_and_gradient(graph, inputs, z)
    every = iter(np.ndindex(*(2,) * 9))
    monkeypatch.setattr(
        criteria.torch,
        "randint",
        lambda low, high, shape, generator: torch.tensor(next(every)).reshape(shape),
    )
    estimate = criteria._force_term(gradient, z, 2**9, None)
    exact = (measured[0][2] ** 2).sum(axis=1)
    np.testing.assert_allclose(estimate.numpy(), exact, rtol=1e-6, atol=1e-9 * exact.max())


def test_weights_add_up(graph):
    frames = toy.frames()
    energy, _ = criteria.energy_force(graph, frames, force_weight=0.0)
    force, _ = criteria.energy_force(graph, frames, energy_weight=0.0, seed=3)
    both, _ = criteria.energy_force(graph, frames, energy_weight=2.0, force_weight=0.5, seed=3)
    np.testing.assert_allclose(both, 2 * energy + 0.5 * force, rtol=1e-12)


def test_isolated_atoms_have_no_force_term(graph):
    alone = toy.frames(1)[0][:1]
    with_forces, _ = criteria.energy_force(graph, [alone])
    without_forces, _ = criteria.energy_force(graph, [alone], force_weight=0.0)
    assert np.array_equal(with_forces, without_forces)


def test_seeds_repeat(graph):
    frames = toy.frames()
    first, again, other = (criteria.energy_force(graph, frames, seed=s)[0] for s in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_progress(graph):
    seen = []
    criteria.energy_force(graph, toy.frames(), progress=lambda done, n: seen.append((done, n)))
    assert seen == [(1, 2), (2, 2)]


# ---- what z multiplies


def merged(first):
    """Channels of a that one path hands to a shared output and another makes products of."""
    tp = o3.TensorProduct(
        "3x0e",
        "1x0e+1x0e+1x1o",
        "3x0e+3x1o",
        [(0, 0, 0, "uvu", True), (0, 1, 0, "uvu", True), (0, 2, 1, "uvu", True)],
    )
    return trace(
        lambda self, x, y: self.b(self.tp(self.a(x), y)),
        {"x": "2x0e", "y": "1x0e+1x0e+1x1o"},
        a=first,
        tp=tp,
        b=o3.Linear("3x0e+3x1o", "1x0e+1x1o"),
    )


def test_zero_multipliers_are_the_masked_model(unscripted, graph):
    """Multiplying the free factors only, by 0 or 1, gives what the mask gives."""
    m = merged(o3.Linear("2x0e", "3x0e"))
    cases = [(m, {"tp:0e": [1]})]
    cases += [(graph, {a.name: [0]}) for a in graph.axes() if len(a.groups) > 1]
    assert len(cases) >= 6
    for g, removed in cases:
        cut = without(g, removed)
        x = cut.example(seed=2)
        z = torch.from_numpy(cut.keep.astype(np.float64))
        free_factors = MultipliedInterpreter(cut, read_plan(cut, of_value=False), z).run(*x)
        masked = cut.masked_reference()(*x)
        assert not torch.equal(masked, g.gm(*x))
        torch.testing.assert_close(free_factors, masked, rtol=1e-12, atol=1e-12)


def test_z_multiplies_a_block_once(unscripted):
    """The value is linear in a, so E(z) = E(0) + z (E(1) − E(0)) for one channel of a."""
    g = merged(o3.Linear("2x0e", "3x0e"))
    c = axis(g, "tp:0e").groups[1]
    x = g.example(seed=2)
    plan = read_plan(g, of_value=False)
    at = []
    for value in (0.0, 1.0, 3.0):
        z = torch.ones(g.blocks.n_classes, dtype=torch.float64)
        z[c] = value
        at.append(MultipliedInterpreter(g, plan, z).run(*x))
    torch.testing.assert_close(at[2], at[0] + 3 * (at[1] - at[0]), rtol=1e-12, atol=1e-12)
    assert (at[1] - at[0]).abs().min() > 0


# ---- baselines


def chain():
    return trace(
        lambda self, x: self.b(self.a(x)),
        {"x": "2x0e+1x1o"},
        a=o3.Linear("2x0e+1x1o", "4x0e+3x1o"),
        b=o3.Linear("4x0e+3x1o", "2x0e+2x1o"),
    )


def test_magnitude_by_its_formula(unscripted):
    g = chain()
    values = criteria.magnitude(g)
    a, b = (g.gm.get_submodule(n) for n in "ab")
    wa = a.weight[:8].reshape(2, 4) / np.sqrt(2)
    wb = b.weight[:8].reshape(4, 2) / np.sqrt(4)
    expected = (wa**2).sum(0) + (wb**2).sum(1)
    np.testing.assert_allclose(values[list(axis(g, "a:0e").groups)], expected.detach(), rtol=1e-12)


def test_magnitude_sees_through_normalisation(unscripted):
    """Slicing changes every stored weight by a fold, and no effective weight of what stays."""
    g = chain()
    before = criteria.magnitude(g)[list(axis(g, "a:0e").groups)]
    small = slice_graph(without(g, {"a:0e": [1, 3], "a:1o": [0]}))
    after = criteria.magnitude(small)[list(axis(small, "a:0e").groups)]
    np.testing.assert_allclose(after, before[[0, 2]], rtol=1e-12)


def test_magnitude_of_hidden_neurons(unscripted):
    net = enn.FullyConnectedNet([3, 4, 2], torch.tanh, variance_in=2, variance_out=3)
    g = trace(lambda self, x: self.net(x), {"x": "3x0e"}, net=net)
    first, second = (layer.weight.detach() for layer in net.children())
    expected = (first**2).sum(0) / (3 * 2) + (second**2).sum(1) * 3 / 4
    values = criteria.magnitude(g)[list(axis(g, "net.hidden0").groups)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_magnitude_says_nothing_where_no_weights_are(unscripted):
    """The orders of the harmonics feed a product whose weights come from outside."""
    g = toy.graph()
    values = criteria.magnitude(g)
    assert np.isfinite(values[list(axis(g, "embed:0e").groups)]).all()
    assert np.isnan(values[list(axis(g, "sh").groups)]).all()


def test_activation_by_its_formula(graph):
    frames = toy.frames()
    values, detail = criteria.activation(graph, frames, lambda done, total: None)
    total = np.zeros(3)
    for inputs in criteria.structures(graph, frames):
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
    assert detail == {"structures": 2}


def test_random(graph):
    first, again, other = (criteria.random(graph, s) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (graph.blocks.n_classes,)
    assert 0 <= first.min() < first.max() < 1


# ---- the pass


def context(**options):
    return PassContext(**options)


@pytest.mark.parametrize("by", ["energy-force", "magnitude", "activation", "random"])
def test_pass_attaches_scores(graph, by):
    scored = Score(by=by).run(graph, context(frames=toy.frames(), seed=3))
    assert scored.scores.criterion == by
    assert scored.scores.values.shape == (graph.blocks.n_classes,)
    assert graph.scores is None
    again = Score(by=by).run(graph, context(frames=toy.frames(), seed=3))
    np.testing.assert_array_equal(scored.scores.values, again.scores.values)


def test_pass_uses_as_many_structures_as_asked(graph):
    one = Score(structures=1).run(graph, context(frames=toy.frames(3), seed=0))
    assert one.scores.detail["structures"] == 1


def test_pass_errors(graph):
    with pytest.raises(UsageError) as caught:
        Score(by="fisher").run(graph, context())
    assert str(caught.value) == (
        "score: unknown criterion 'fisher'; known: energy-force, magnitude, activation, random"
    )
    with pytest.raises(UsageError) as caught:
        Score(by="activation").run(graph.replace(atomistic=None), context())
    assert str(caught.value) == (
        "score{by=activation} runs the model on atoms, but this graph has no elements or cutoff;"
        " use by=magnitude or by=random"
    )
