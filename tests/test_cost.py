"""The cost model against what torch counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import nn as enn
from e3nn import o3
from torch.utils.flop_counter import FlopCounterMode

import irprune
from irprune.cost import DEFAULT_EDGES_PER_ATOM, graph_stats, node_costs
from irprune.dead import eliminate_dead
from irprune.functional import scatter_sum
from irprune.slicing import slice_graph
from tests import networks
from tests.handmade import single, trace, without
from tests.ops.cases import CASES, made

pytestmark = pytest.mark.usefixtures("unscripted")


def counted(module, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops()


def rows(site):
    return {"node": 4, "edge": 7}[site.result.space.value]  # of irprune.infer.example_inputs


NETS = [
    ("linear", "uvu", "gate", "bias"),
    ("residual", "fctp", "concat", "columns"),
    ("uvw", "activation", "uvu-merged"),
]


@pytest.mark.parametrize("kinds", NETS, ids="-".join)
def test_params_are_those_of_the_modules(kinds):
    """Before and after slicing, and of a mask without slicing."""
    graph = irprune.trace(networks.RandomNet(kinds, 2).double(), networks.INPUTS)
    assert graph.stats().params == sum(p.numel() for p in graph.gm.parameters())
    keep = eliminate_dead(graph, networks.random_mask(graph, 4, 0.4))
    small = slice_graph(graph.replace(keep=keep))
    sliced = sum(p.numel() for p in small.gm.parameters())
    assert sliced == small.stats().params < graph.stats().params
    of_mask = graph_stats(graph, graph.blocks.elements(keep))
    assert of_mask.params == sliced
    assert of_mask.flops_per_atom == pytest.approx(small.stats().flops_per_atom, rel=0.02)


def linears():
    """Linears and radial networks on nodes and edges, one of them called twice."""
    return trace(
        lambda self, x, edge, src, dst: (
            self.c(
                self.b(self.b(self.a(x)))
                + scatter_sum(self.d(self.a(x)[src]), dst, dim=0, dim_size=x.shape[0])
            )
            * self.net(scatter_sum(self.net2(edge), dst, dim=0, dim_size=x.shape[0]))
        ),
        {"x": "2x0e+1x1o", "edge": "3x0e", "src": "index", "dst": "index"},
        a=o3.Linear("2x0e+1x1o", "5x0e+3x1o+2x1e"),
        b=o3.Linear("5x0e+3x1o+2x1e", "5x0e+3x1o+2x1e"),
        c=o3.Linear("5x0e+3x1o+2x1e", "1x0e+1x1o"),
        d=o3.Linear("5x0e+3x1o+2x1e", "5x0e+3x1o+2x1e", biases=True),
        net=enn.FullyConnectedNet([4, 6, 5, 1], torch.tanh),
        net2=enn.FullyConnectedNet([3, 5, 4], torch.tanh),
    )


@pytest.mark.parametrize("sliced", [False, True])
def test_matmul_flops_are_what_torch_counts(sliced):
    graph = linears()
    if sliced:
        several = [a for a in graph.axes() if len(a.groups) > 2]
        assert len(several) >= 4
        graph = slice_graph(without(graph, {a.name: [0, 2] for a in several}))
    total = 0.0
    for name, cost in node_costs(graph).items():
        if cost.matmul:
            total += cost.matmul * rows(graph.sites[name])
    assert total == counted(graph.gm, *graph.example())


@pytest.mark.parametrize(
    "name", ["linear", "linear-bias", "linear-split", "fcn", "torch-linear", "element-linear"]
)
def test_matmul_flops_of_one_op(name):
    module, inputs = made(name)
    graph = single(module, **inputs)
    cost = node_costs(graph)["op"]
    assert cost.matmul * 4 == counted(module, *graph.example())
    assert cost.matmul <= cost.flops
    assert cost.params == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    "name", [n for n in CASES if n.startswith(("tp-", "fctp", "full", "elementwise"))]
)
def test_tensor_products_count_at_least_what_torch_does(name):
    """The order of contraction is e3nn's choice; the model counts the plain one."""
    module, inputs = made(name)
    graph = single(module, **inputs)
    cost = node_costs(graph)["op"]
    assert cost.matmul == 0
    assert counted(module, *graph.example()) <= 4 * cost.flops
    assert cost.params == sum(p.numel() for p in module.parameters())


def test_one_hot_product():
    """MACE's skip connection: features times species."""
    module = o3.FullyConnectedTensorProduct("8x0e+4x1o", "5x0e", "8x0e+4x1o").double()
    graph = single(module, x="8x0e+4x1o", y="5x0e")
    cost = node_costs(graph)["op"]
    assert cost.params == 8 * 5 * 8 + 4 * 5 * 4
    plain = 2 * (8 * 5 * 8 + 4 * 5 * 4 * 3)
    assert plain <= cost.flops <= 1.2 * plain
    assert counted(module, *graph.example()) <= 4 * cost.flops


def test_edges_are_counted_per_atom():
    graph = linears()
    few, many = graph.stats(edges_per_atom=10), graph.stats(edges_per_atom=30)
    on_edges = sum(
        c.flops for n, c in node_costs(graph).items() if str(graph.type_of(n)).startswith("edge")
    )
    assert many.flops_per_atom - few.flops_per_atom == pytest.approx(20 * on_edges)
    assert graph.stats().edges_per_atom == DEFAULT_EDGES_PER_ATOM
    assert graph.replace(edges_per_atom=17.0).stats().edges_per_atom == 17.0
    assert few.params == many.params


def test_a_module_called_twice_has_its_parameters_once():
    graph = linears()
    assert graph.stats().params == sum(p.numel() for p in graph.gm.parameters())


def test_blocks_count_channels():
    graph = linears()
    channels = [a for a in graph.axes() if a.kind == "channel"]
    assert graph.stats().blocks == sum(len(a.groups) for a in channels)
    nothing = np.zeros(graph.blocks.n, bool)
    assert graph_stats(graph, nothing).blocks == 0
