"""The same structure with new weights: what is learned is new, what is not stays."""

from __future__ import annotations

import pytest
import torch

import irprune
from irprune.errors import LegalityError
from irprune.families.mace import MaceFamily
from irprune.families.mace.load import wrap
from irprune.families.trace import trace_family
from irprune.recover.fresh import fresh
from tests.families import sevennet_models
from tests.families.mace_models import STYLES, build, without_torchscript  # noqa: F401
from tests.passes import toy


@pytest.fixture(scope="module", params=["sevennet", "mace"])
def pruned(request, without_torchscript):  # noqa: F811
    if request.param == "sevennet":
        graph = sevennet_models.small("even-linear-xplor").graph
    else:
        graph = trace_family(MaceFamily(), wrap(build(**{**STYLES["mp"], "correlation": 2}), ""))
    graph = graph.replace(gm=graph.module(torch.float64))
    return irprune.run("score{by=random},select{keep=0.5},slice", graph)


@pytest.fixture(scope="module")
def made(pruned):
    return fresh(pruned, 3)


def weights(graph):
    return {k: p.detach() for k, p in graph.gm.named_parameters()}


def test_the_structure_is_that_of_the_pruned_model(pruned, made):
    again, other = (fresh(pruned, seed) for seed in (3, 4))
    assert made.irreps_per_layer() == pruned.irreps_per_layer()
    assert made.stats().flops_per_atom == pruned.stats().flops_per_atom
    assert {p.dtype for p in made.gm.parameters()} == {torch.float64}, "that of the pruned model"
    own, same, third = weights(made), weights(again), weights(other)
    assert all(torch.equal(v, same[k]) for k, v in own.items())
    moved = [k for k, v in own.items() if v.numel() > 8 and not torch.equal(v, third[k])]
    assert len(moved) > 0.4 * len(own)
    old = weights(pruned)
    shared = [k for k in moved if k in old]
    assert shared
    assert not any(own[k].shape == old[k].shape and torch.equal(own[k], old[k]) for k in shared)


def test_energies_keep_their_references(pruned, made):
    """Atoms without neighbours: what is left are shifts and reference energies per element."""
    kept = {**weights(pruned), **dict(pruned.gm.named_buffers())}
    new = {**weights(made), **dict(made.gm.named_buffers())}
    names = [k for k in new if k.endswith(("shift", "scale", "atomic_energies"))]
    assert len(names) >= 2
    for name in names:
        torch.testing.assert_close(new[name], kept[name].to(new[name]), rtol=1e-6, atol=1e-7)


def test_a_graph_without_a_family_has_no_class_to_begin_with(unscripted):
    with pytest.raises(LegalityError, match="this graph comes from no family"):
        fresh(toy.graph(), 0)
