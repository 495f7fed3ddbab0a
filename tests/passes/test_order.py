"""Passes in an order that would lose a selection, and orders that are counted by l."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from torch import nn

import irprune
from irprune.errors import PipelineError


class Harmonics(nn.Module):
    """Spherical harmonics without l = 1, summed up by a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.sh = o3.SphericalHarmonics([0, 2, 3], True, "component")
        self.linear = o3.Linear(self.sh.irreps_out, "1x0e+1x2e+1x3o")

    def forward(self, edge_vector):
        return self.linear(self.sh(edge_vector))


@pytest.fixture
def graph():
    torch.manual_seed(0)
    return irprune.trace(Harmonics().double(), {"edge_vector": "1x1o"})


@pytest.mark.parametrize("name", ["eliminate-dead", "rewrite-tp", "recover"])
def test_a_selection_is_not_forgotten(graph, name):
    with pytest.raises(
        PipelineError,
        match=f"^{name}: blocks are selected but not removed, and {name} heeds no selection",
    ):
        irprune.run(f"score{{by=random}},select{{edge-lmax=2}},{name},slice", graph)


def test_a_second_selection_does_not_replace_the_first(graph):
    with pytest.raises(
        PipelineError,
        match=r"^select: blocks are selected but not removed, and select heeds no selection; run slice"
        r" before it, or choose all at once, as in select\{axes=\[channel,radial\]\}$",
    ):
        irprune.run("score{by=random},select{edge-lmax=2},select{edge-lmax=0},slice", graph)


@pytest.mark.parametrize(("lmax", "left"), [(1, "1x0e"), (2, "1x0e+1x2e"), (3, "1x0e+1x2e+1x3o")])
def test_edge_lmax_is_an_order_not_a_position(graph, lmax, left):
    small = irprune.run(f"score{{by=random}},select{{edge-lmax={lmax}}},slice", graph)
    assert small.type_of("sh").irreps == left
