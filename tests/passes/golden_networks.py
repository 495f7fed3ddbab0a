"""The networks of the golden files of passes: small, and each with what its passes look for."""

from __future__ import annotations

import functools

import torch
from e3nn import nn as enn
from e3nn import o3
from torch import nn

import irprune
from irprune.families.trace import trace_family
from tests.handmade import trace
from tests.passes import test_exact, toy


class Wasteful(nn.Module):
    """Blocks that nobody reads, blocks that are zero, and a path without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a = o3.Linear("2x0e+1x1o", "4x0e+2x1o")
        self.tp = o3.TensorProduct(
            "4x0e+2x1o", "1x0e+1x1o", "4x0e+4x1o+2x1o",
            [(0, 0, 0, "uvu", True), (0, 1, 1, "uvu", True), (1, 0, 2, "uvu", True)],
            shared_weights=False,
        )  # fmt: skip
        self.radial = enn.FullyConnectedNet([3, 4, self.tp.weight_numel], torch.tanh)
        self.out = o3.Linear("4x0e+4x1o+2x1o", "1x0e+1x1o", biases=True)

    def forward(self, x, edge_attr, edge_len):
        return self.out(self.tp(self.a(x), edge_attr, self.radial(edge_len)))[:, :1]


def wasteful():
    torch.manual_seed(0)
    network = Wasteful().double()
    with torch.no_grad():
        last = list(network.radial.children())[-1]
        last.weight[:, :4] = 0  # the first path of four channels
    return irprune.trace(
        network, {"x": "edge:2x0e+1x1o", "edge_attr": "1x0e+1x1o", "edge_len": "3x0e"}
    )


def chain():
    torch.manual_seed(0)
    return trace(
        lambda self, x: self.c(torch.tanh(self.b(self.a(x))[:, :5])),
        {"x": "2x0e+1x1o"},
        a=o3.Linear("2x0e+1x1o", "4x0e+3x1o"),
        b=o3.Linear("4x0e+3x1o", "5x0e+2x1o"),
        c=o3.Linear("5x0e", "2x0e", biases=True),
    )


def mace(style: str, **changes):
    from irprune.families.mace import MaceFamily
    from irprune.families.mace.load import wrap
    from tests.families.mace_models import STYLES, build

    return trace_family(MaceFamily(), wrap(build(**{**STYLES[style], **changes}), ""))


NETWORKS = {
    "chain": chain,
    "gated": toy.graph,
    "mace-deep": lambda: mace("deep", correlation=1, max_ell=1),
    "mace-single": lambda: mace("single"),
    "small": test_exact.graph,
    "wasteful": wasteful,
}


@functools.cache
def network(name: str):
    return NETWORKS[name]()
