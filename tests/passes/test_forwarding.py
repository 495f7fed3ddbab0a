"""Columns of a concatenation that are whole operands are read from the operands."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from torch import nn

import irprune
from irprune.forwarding import forwarded
from irprune.verification.ladder import compare_on_examples


class Cuts(nn.Module):
    """Two values joined and cut; ``stop`` says where."""

    def __init__(self, start, stop):
        super().__init__()
        self.a, self.b = o3.Linear("3x0e", "2x0e+1x1o"), o3.Linear("3x0e", "4x0e")
        self.start, self.stop = start, stop
        self.out = o3.Linear(f"{stop - start}x0e", "1x0e")

    def forward(self, x):
        joined = torch.cat([self.b(x), self.a(x), self.b(x)], dim=-1)
        return self.out(joined[:, self.start : self.stop])


@pytest.mark.parametrize(
    ("start", "stop", "goes"), [(0, 4, True), (9, 13, True), (0, 3, False), (1, 5, False)]
)
def test_whole_operands_only(start, stop, goes):
    torch.manual_seed(0)
    graph = irprune.trace(Cuts(start, stop).double(), {"x": "3x0e"})
    made = forwarded(graph)
    assert ("concat" not in str(made)) == goes
    assert (made is graph) != goes
    assert compare_on_examples(graph, graph.module(), made.module()) == 0.0
