"""Golden texts of a small network, before and after slicing, in tests/golden/graphs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from e3nn import nn as enn
from e3nn import o3
from torch import nn

import irprune
from irprune.functional import scatter_sum
from irprune.slicing import slice_graph
from tests.handmade import without

INPUTS = {
    "x": "4x0e+2x1o",
    "edge_attr": "1x0e+1x1o",
    "edge_len": "3x0e",
    "edge_src": "index",
    "edge_dst": "index",
}


class Layer(nn.Module):
    """One message passing layer with a gate, a residual and an unregistered function."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = enn.Gate("3x0e", [torch.tanh], "2x0e", [torch.sigmoid], "2x1o")
        self.tp = o3.TensorProduct(
            "4x0e+2x1o",
            "1x0e+1x1o",
            "4x0e+4x1o+2x1o",
            [(0, 0, 0, "uvu", True), (0, 1, 1, "uvu", True), (1, 0, 2, "uvu", True)],
            shared_weights=False,
        )
        self.radial = enn.FullyConnectedNet([3, 5, self.tp.weight_numel], torch.tanh)
        self.mix = o3.Linear(self.tp.irreps_out, self.gate.irreps_in)
        self.skip = o3.Linear("4x0e+2x1o", self.gate.irreps_out)
        self.scalars = o3.Linear(self.gate.irreps_out, "2x0e+1x1o")

    def forward(self, x, edge_attr, edge_len, edge_src, edge_dst):
        message = self.tp(x[edge_src], edge_attr, self.radial(edge_len))
        total = scatter_sum(message, edge_dst, dim=0, dim_size=x.shape[0])
        y = self.gate(self.mix(total)) + self.skip(x)
        z = self.scalars(y)
        return torch.cat([torch.flip(z[:, :2], (0,)), z[:, 2:] / 2.0], dim=1)


def texts() -> dict[str, str]:
    graph = irprune.trace(Layer().double(), INPUTS)
    small = slice_graph(
        without(
            graph,
            {"skip:0e": [1, 2], "skip:1o": [0], "radial.hidden0": [0, 3, 4], "tp.path": [1]},
        )
    )
    return {
        "layer.txt": str(graph),
        "layer-groups.txt": unnumbered(graph.groups()),
        "layer-sliced.txt": str(small),
        "layer-sliced-groups.txt": unnumbered(small.groups()),
    }


def unnumbered(text):
    """Without the number of a line of this file."""
    return text.replace(f"test_text.py:{FLIP}", "test_text.py:FLIP")


LINES = Path(__file__).read_text(encoding="utf-8").splitlines()
FLIP = 1 + next(i for i, line in enumerate(LINES) if "torch.flip" in line)


@pytest.fixture(scope="module")
def printed(unscripted):
    return texts()


@pytest.mark.parametrize("name", ["layer", "layer-groups", "layer-sliced", "layer-sliced-groups"])
def test_print(printed, name, golden):
    golden(f"graphs/{name}.txt", printed[f"{name}.txt"])
