"""Masked ≡ sliced to 1e-10 (energies and forces, float64) on every family member and every kind of
mask: the invariant that everything rests on.
"""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

import irprune
from irprune.dead import eliminate_dead
from irprune.evaluation.potential import Potential
from irprune.families import family_named, family_of
from irprune.families.mace.load import wrap
from irprune.families.trace import trace_family
from irprune.slicing import slice_graph
from tests.families import mace_models, sevennet_models

BUILT_MACE = [*mace_models.STYLES, *mace_models.INTERACTIONS]
BUILT_SEVENNET = sorted(sevennet_models.VARIANTS)
REAL = {
    "7net-0": "7net-0",
    "7net-l3i5": "7net-l3i5",
    "mace-mp-0-small": "mace_mp_0_small.model",
    "mace-gesbte": "mace_GeSbTe_L1.model",
}
MASKS = ("random", "top-order", "explicit", "everything")


@functools.lru_cache(maxsize=1)
def real_graph(name, folder):
    where = name if name.startswith("7net") else str(folder / "checkpoints" / name)
    graph = irprune.load(where, trust=True)
    return graph.replace(gm=graph.module(torch.float64))


def structures(graph):
    """A crystal and a molecule (or a second crystal) of elements that the model knows."""
    known = set(graph.atomistic.symbols)
    if {"Ge", "Te"} <= known and len(known) == 3:
        return [bulk("GeTe", "rocksalt", a=6.0), bulk("Sb", "fcc", a=4.7, cubic=True)]
    if {"H", "C", "O"} <= known:
        return [molecule("CH3CHO"), bulk("C", "diamond", a=3.6)]
    raise AssertionError(f"no structures for {known}")


def rattled(graph):
    frames = structures(graph)
    for i, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=i)
    return frames


def mask(graph, kind, seed=7, share=0.3):
    """The class mask of one kind of pruning."""
    space, rng = graph.blocks, np.random.default_rng(seed)
    removed = np.zeros(space.n_classes, bool)
    axes = graph.axes()
    if kind == "random":
        groups = np.array([c for a in axes if a.kind == "channel" for c in a.groups])
        removed[rng.choice(groups, int(share * len(groups)), replace=False)] = True
    elif kind == "top-order":
        for a in axes:
            if a.kind in ("edge", "order"):
                removed[a.groups[-1]] = True
    elif kind == "explicit":
        hidden = graph.irreps_per_layer()
        width = max(2, int(hidden["embedding"].split("x")[0]) // 2)
        counts = family_of(graph).counts_for(graph, f"{width}x0e")
        named = {a.name: a for a in axes}
        for name, count in counts.items():
            removed[list(named[name].groups[count:])] = True
    else:
        groups = np.array([c for a in axes for c in a.groups])
        removed[rng.choice(groups, int(0.8 * share * len(groups)), replace=False)] = True
    return space.without(removed)


def assert_exact(graph, kind, seed=7, share=0.3):
    """Masked equals sliced, relative to the energies and forces that are left; returns the latter."""
    graph = graph.replace(keep=mask(graph, kind, seed, share))
    sliced = slice_graph(graph)
    assert sliced.stats().params < graph.stats().params, "nothing was removed"
    head = graph.atomistic.any_head()
    masked = Potential(graph.masked_reference(), graph.atomistic, head)
    small = Potential(sliced.gm, graph.atomistic, head)
    frames = rattled(graph)
    for model in (masked, small):  # TorchScript's first call differs from the rest by a rounding
        model.evaluate(model.collate(frames))
    a, b = masked.evaluate(masked.collate(frames)), small.evaluate(small.collate(frames))
    for name in ("energy", "forces"):
        want, got = getattr(a, name), getattr(b, name)
        size = want.abs().max()
        assert (got - want).abs().max() <= 1e-10 * size, name
    everything = np.ones(sliced.blocks.n_classes, bool)
    assert (eliminate_dead(sliced, everything) == everything).all()
    return float(a.forces.abs().max())


def assert_exact_on_some_mask(graph, kind):
    """For tiny models: a random mask may cut the last connection; another seed does not."""
    left = 0.0
    for seed in range(6):
        left = assert_exact(graph, kind, seed, share=0.15)
        if left > 1e-9:
            return
    raise AssertionError(f"six masks of kind {kind} left no forces to compare ({left})")


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("kind", MASKS)
def test_pretrained(name, kind, shared):
    assert assert_exact(real_graph(REAL[name], shared), kind) > 1e-9


def built_mace(name):
    """A built MACE of a style or interaction class, as a float64 graph."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in mace_models.STYLES:
            loaded = mace_models.loaded(name)
        else:
            loaded = wrap(mace_models.build(**mace_models.interaction_arguments(name)), "")
        graph = trace_family(family_named("mace"), loaded)
    return graph.replace(gm=graph.module(torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT_MACE)
def test_built_mace(name):
    graph = built_mace(name)
    for kind in ("random", "everything"):
        assert_exact_on_some_mask(graph, kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT_SEVENNET)
def test_built_sevennet(name):
    graph = sevennet_models.small(name).graph
    graph = graph.replace(gm=graph.module(torch.float64))
    for kind in ("random", "everything"):
        assert_exact_on_some_mask(graph, kind)


def test_potentials_differ_after_pruning():
    """The masks above do something: the pruned model is another function."""
    graph = sevennet_models.small(BUILT_SEVENNET[0]).graph
    small = slice_graph(graph.replace(keep=mask(graph, "random")))
    frames = rattled(graph)
    a, b = (Potential(g.module(), g.atomistic) for g in (graph, small))
    first, second = a.evaluate(a.collate(frames)), b.evaluate(b.collate(frames))
    assert (first.energy - second.energy).abs().max() > 1e-3
