"""Importance: the energy-force sensitivity against its definition, and the pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3

from irprune.api import CRITERIA
from irprune.errors import DataError, UsageError
from irprune.masked import MultipliedInterpreter, read_plan
from irprune.passes.criteria import criterion_names
from irprune.passes.criteria.base import Measure
from irprune.passes.criteria.energy_force import directions, force_term
from irprune.passes.criteria.loop import accumulate
from irprune.passes.criteria.structures import structures
from irprune.passes.score import Score
from irprune.passmanager import PassContext
from tests.handmade import axis, trace, without
from tests.passes import toy


def score(graph, frames, seed=0, progress=lambda *args: None, **options):
    """The pass's scores and their detail."""
    context = PassContext(frames=frames, seed=seed, progress=progress)
    found = Score(**options).run(graph, context).scores
    return found.values, found.detail


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
        (inputs.n_atoms, *differences(graph, inputs)) for inputs in structures(graph, toy.frames())
    ]


def test_energy_term_is_the_squared_derivative(graph, measured):
    values, detail = score(graph, toy.frames(), force_weight=0.0)
    expected = np.mean([(e / n) ** 2 for n, e, _ in measured], axis=0)
    assert expected[free(graph)].max() > 1e-4
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-12)
    counted = {k: detail[k] for k in ("criterion", "structures", "left_out", "probes", "seed")}
    assert counted == {
        "criterion": "energy-force", "structures": 2, "left_out": 0, "probes": 2, "seed": 0,
    }  # fmt: skip


def test_frames_with_large_forces_are_left_out(graph):
    _, detail = score(graph, toy.frames(), max_force=1e6)
    assert (detail["structures"], detail["left_out"]) == (2, 0)
    with pytest.raises(DataError, match=r"^score: all 2 structures have a force above 1e-09 eV/Å"):
        score(graph, toy.frames(), max_force=1e-9)


def test_force_term_is_unbiased(graph, measured):
    """Over many probes the estimate meets ‖∂F/∂z‖²/3N within three standard errors."""
    exact = np.mean([(f**2).sum(axis=1) / (3 * n) for n, _, f in measured], axis=0)
    runs = np.array(
        [score(graph, toy.frames(), energy_weight=0.0, probes=4, seed=s)[0] for s in range(25)]
    )
    scale = exact.max()
    standard_error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
    assert standard_error.max() / scale < 0.1
    dead = [axis(graph, "sh").groups[2], axis(graph, "tp.path").groups[2]]  # mix reads no 2e
    assert exact[dead].tolist() == [0, 0]
    assert exact[np.setdiff1d(free(graph), dead)].min() / scale > 1e-8
    outside = np.abs(runs.mean(axis=0) - exact) > 3 * standard_error + 1e-9 * scale
    assert outside.mean() < 0.05


def test_force_term_over_all_sign_vectors_is_exact(graph, measured):
    """Averaged over all 2^3N sign vectors nothing is left to chance."""
    (inputs,) = structures(graph, toy.frames(1))
    z = torch.ones(graph.blocks.n_classes, dtype=torch.float64, requires_grad=True)
    _, gradient = energy_and_gradient(graph, inputs, z)
    every = [
        torch.tensor(v, dtype=torch.float64).reshape(3, 3) * 2 - 1 for v in np.ndindex(*(2,) * 9)
    ]
    exact = (measured[0][2] ** 2).sum(axis=1)
    estimate = force_term(gradient, z, every).numpy()
    np.testing.assert_allclose(estimate, exact, rtol=1e-6, atol=1e-9 * exact.max())


def test_no_probes_is_the_exact_sum(graph, measured):
    """probes=0 takes a complete orthonormal basis: no seed changes it."""
    exact = np.mean([(f**2).sum(axis=1) / (3 * n) for n, _, f in measured], axis=0)
    first, again = (
        score(graph, toy.frames(), energy_weight=0.0, probes=0, seed=s)[0] for s in (0, 1)
    )
    np.testing.assert_allclose(first, exact, rtol=1e-6, atol=1e-9 * exact.max())
    np.testing.assert_array_equal(first, again)
    with pytest.raises(
        UsageError, match=r"^score: probes must be a number of directions, or 0 for"
    ):
        score(graph, toy.frames(), probes=-1)


def test_directions_have_the_unit_matrix_as_their_mean_square():
    for probes in (0, 20_000):
        like = torch.zeros(2, 3, dtype=torch.float64)
        v = torch.stack(list(directions(like, probes, torch.Generator().manual_seed(0))))
        second = torch.einsum("na,nb->ab", v.flatten(1), v.flatten(1)) / len(v)
        bound = 5 / 20_000**0.5 if probes else 1e-12
        torch.testing.assert_close(second, torch.eye(6, dtype=second.dtype), rtol=0, atol=bound)


def test_weights_add_up(graph):
    frames = toy.frames()
    energy, _ = score(graph, frames, force_weight=0.0)
    force, _ = score(graph, frames, energy_weight=0.0, seed=3)
    both, _ = score(graph, frames, energy_weight=2.0, force_weight=0.5, seed=3)
    np.testing.assert_allclose(both, 2 * energy + 0.5 * force, rtol=1e-12)


def test_isolated_atoms_have_no_force_term(graph):
    alone = toy.frames(1)[0][:1]
    with_forces, _ = score(graph, [alone])
    without_forces, _ = score(graph, [alone], force_weight=0.0)
    assert np.array_equal(with_forces, without_forces)


def test_seeds_repeat(graph):
    frames = toy.frames()
    first, again, other = (score(graph, frames, seed=s)[0] for s in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_progress(graph):
    seen = []
    score(graph, toy.frames(), progress=lambda *args: seen.append(args))
    assert seen == [("score (energy-force)", 1, 2), ("score (energy-force)", 2, 2)]


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


# ---- the pass


def context(**options):
    return PassContext(**options)


@pytest.mark.parametrize("by", CRITERIA)
def test_pass_attaches_scores(graph, by):
    scored = Score(by=by).run(graph, context(frames=toy.labelled(), seed=3))
    assert scored.scores.criterion == by
    assert scored.scores.values.shape == (graph.blocks.n_classes,)
    assert graph.scores is None
    again = Score(by=by).run(graph, context(frames=toy.labelled(), seed=3))
    np.testing.assert_array_equal(scored.scores.values, again.scores.values)


def test_pass_uses_as_many_structures_as_asked(graph):
    one = Score(structures=1).run(graph, context(frames=toy.frames(3), seed=0))
    assert one.scores.detail["structures"] == 1


def test_structures_are_spread_over_the_data(graph):
    """The first ones of a file are often of one kind."""
    frames = toy.frames(6)
    found = Score(structures=3).run(graph, context(frames=frames, seed=0)).scores
    assert (found.detail["structures"], found.detail["given"]) == (3, 6)
    chosen = [frames[i] for i in (0, 3, 5)]
    alone = Score(structures=3).run(graph, context(frames=chosen, seed=0)).scores
    np.testing.assert_array_equal(found.values, alone.values)
    frames[3].info["REF_energy"] = 1.0
    with pytest.raises(
        DataError, match=r"2 of 3 structures have neither .*: 0 \(CHO\), 5 \(CHO\);"
    ):
        Score(by="fisher", structures=3).run(graph, context(frames=frames, seed=0))


def test_pass_errors(graph):
    with pytest.raises(UsageError) as caught:
        Score(by="fischer").run(graph, context())
    assert str(caught.value) == (
        "score: unknown criterion 'fischer'; did you mean fisher? (criteria: activation,"
        " energy-force, fisher, magnitude, random, redundancy, taylor)"
    )
    with pytest.raises(UsageError) as caught:
        Score(by="activation").run(graph.replace(atomistic=None), context())
    assert str(caught.value) == (
        "score{by=activation} runs the model on atoms, but this graph has no elements or cutoff;"
        " use by=magnitude, by=redundancy or by=random"
    )
    with pytest.raises(UsageError, match=r"^score: structures must be 1 or more, got 0$"):
        Score(structures=0).run(graph, context())


def test_the_command_line_knows_every_criterion():
    assert sorted(CRITERIA) == list(criterion_names())


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("meta", "its tensors hold no numbers"),
        ("abacus", "Expected one of cpu"),
        ("cuda:99", ""),
    ],
)
def test_a_device_that_cannot_be_used_is_refused(graph, device, reason):
    for where in (Score(device=device), Score()):
        with pytest.raises(UsageError, match=f"^score: device '{device}' cannot be used: {reason}"):
            where.run(graph, context(frames=toy.frames(), device=device))


def test_the_device_of_the_pass_comes_before_that_of_the_run(graph):
    found = Score(device="cpu").run(graph, context(frames=toy.frames(), device="meta"))
    assert np.isfinite(found.scores.values).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("by", ["energy-force", "taylor", "fisher", "activation"])
def test_scores_on_a_gpu_are_those_on_the_cpu(graph, by):
    frames = toy.labelled()
    here, there = (score(graph, frames, by=by, device=d)[0] for d in ("cpu", "cuda"))
    np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-12 * np.nanmax(here))


class Torn(Measure):
    """Not a number for structures with atoms on top of each other."""

    def __init__(self, n):
        self.n = n

    def of(self, structure, generator):
        lengths = structure.call[0].norm(dim=1)
        return torch.ones(self.n, dtype=torch.float64) * (lengths / lengths).prod()


def test_a_structure_without_finite_scores_is_named(graph):
    """Its NaN would have been the score of every block, and the error that of a missing score."""
    frames = toy.frames(3)
    frames[1].positions[1] = frames[1].positions[0]
    with pytest.raises(DataError) as caught:
        accumulate(Torn(graph.blocks.n_classes), graph, frames)
    assert str(caught.value) == (
        "score: frame 1 (CHO) gives scores that are not finite; are atoms on top of each other?"
        " Remove it"
    )
