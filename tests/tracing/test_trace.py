"""Networks that nobody here wrote: traced and pruned exactly, or declined by name."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from e3nn import o3
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import irprune
from irprune.errors import IrpruneError, UsageError
from irprune.slicing import masked_and_sliced, slice_graph
from irprune.verification.ladder import compare_on_examples
from tests import userland
from tests.handmade import Net, axis, error, without
from tests.networks import random_mask
from tests.userland import GRAPH, PIECES, UserNet

pytestmark = pytest.mark.usefixtures("unscripted")

BARRIERS = {
    "Barrier": ["pieces_0_opaque"],
    "ReadsWeights": ["linear"],
    "Thresholds": ["mul"],
    "SharedBehindBarrier": ["flip"],
}
DECLINED = {
    "Unsound": "the graph of UserNet.forward gives other values than the module: its code depends on"
    " values, or changes a tensor in place where another name sees it (x += y); write x = x + y, and"
    " move the rest into a submodule, which becomes a barrier",
}


def assert_exact(graph, seed, share, tolerance=1e-10):
    """Masked and sliced agree in values and gradients, also on more rows than were typed on."""
    sliced = slice_graph(graph.replace(keep=random_mask(graph, seed, share)))
    masked, small = masked_and_sliced(sliced)
    for grow in (0, 3):
        assert compare_on_examples(sliced, masked, small, grow) <= tolerance
    return sliced


@pytest.mark.parametrize("name", [p.__name__ for p in PIECES if p.__name__ not in DECLINED])
def test_every_piece(name):
    if name == "UnsoundView":
        return
    graph = irprune.trace(UserNet([name], 0).double(), GRAPH)
    assert graph.blocks.barriers == BARRIERS.get(name, [])
    before = graph.stats().params
    assert assert_exact(graph, 1, 0.4).stats().params < before


@pytest.mark.parametrize("name", list(DECLINED))
def test_declined(name):
    with pytest.raises(UsageError) as caught:
        irprune.trace(UserNet([name], 0).double(), GRAPH)
    assert str(caught.value) == DECLINED[name]


def test_a_change_of_a_part_is_declined():
    with pytest.raises(UsageError) as caught:
        irprune.trace(UserNet(["UnsoundView"], 0).double(), GRAPH)
    assert "changes getitem in place, and pieces_0_linear, which may share its memory" in str(
        caught.value
    )
    assert f"({userland.__file__}:" in str(caught.value)


@settings(max_examples=12, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
@given(
    names=st.lists(st.sampled_from([p.__name__ for p in PIECES]), min_size=1, max_size=3),
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.2, 0.5, 0.8]),
)
def test_traced_and_pruned_is_exact_or_declined(names, seed, share):
    try:
        graph = irprune.trace(UserNet(names, seed).double(), GRAPH)
    except IrpruneError:
        assert set(names) & {"Unsound", "UnsoundView"}
        return
    assert_exact(graph, seed, share)


# What is pruned beside a barrier


def test_a_barrier_freezes_only_what_touches_it():
    graph = irprune.trace(UserNet(["Barrier"], 0).double(), GRAPH)
    nodes = {a.node for a in graph.axes()}
    assert "pieces_0_a" not in nodes  # its operand
    assert {"mixes_0", "add", "pieces_0_b"} & nodes
    site = graph.sites["pieces_0_opaque"]
    assert str(site.out) == "node[5x0e+2x1o]"  # as the layer that reads it says
    assert site.why == (
        "its forward cannot be traced: TypeError: float() argument must be a string or a real"
        " number, not 'Proxy'"
    )
    line = next(x for x in graph.groups().splitlines() if x.startswith("barrier"))
    at = line.split(" at ")[1].split(": its")[0]
    path, number = at.rsplit(":", 1)
    assert path == "tests/userland.py"
    with open(userland.__file__) as f:
        assert "self.b(self.opaque(self.a(x)))" in f.readlines()[int(number) - 1]


def test_a_module_called_twice_is_one_parameter_with_one_mask():
    graph = irprune.trace(UserNet(["Shared"], 0).double(), GRAPH)
    groups = axis(graph, "pieces.0.gates.1:1o").groups
    cut = without(graph, {"pieces.0.gates.1:1o": [1]})
    assert len(groups) == 3
    sliced = slice_graph(cut)
    calls = [n for n in sliced.gm.graph.nodes if str(n.target) == "pieces.0.linear"]
    assert len(calls) == 2
    assert sliced.gm.get_submodule("pieces.0.linear").irreps_out == o3.Irreps("4x0e+2x1o")
    assert error(cut) <= 1e-12


def test_masks_are_cut_with_what_they_multiply():
    graph = irprune.trace(UserNet(["Masks"], 0).double(), GRAPH)
    sliced = assert_exact(graph, 0, 0.4)
    scale = sliced.gm.get_submodule("scale_0").weight
    assert scale.numel() == sliced.type_of("scale_0").dim < userland.HIDDEN.dim


def test_a_mask_that_differs_within_an_irrep_breaks_equivariance():
    class Net1(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = o3.Linear("1x1o", "1x1o")
            self.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0]))

        def forward(self, x):
            return self.linear(x) * self.mask

    with pytest.raises(IrpruneError) as caught:
        irprune.trace(Net1().double(), {"x": "1o"})
    assert str(caught.value) == (
        "mul (mul) multiplies linear: node[1x1o] with a parameter of 3 numbers; only one number, or"
        " one per scalar, keeps equivariance"
    )


def test_a_width_that_is_computed_with_stays():
    graph = irprune.trace(UserNet(["UsesWidth"], 0).double(), GRAPH)
    assert "its width is computed with" in graph.groups()
    assert "pieces_0_linear" not in {a.node for a in graph.axes()}


# Inputs and outputs


class DictNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = o3.Linear("2x0e+1x1o", "4x0e+2x1o"), o3.Linear("4x0e+2x1o", "1x0e")

    def forward(self, data, scale):
        y = self.a(data["x"]) * scale
        if "shift" in data:
            y = y + self.a(data["shift"])
        return {"energy": self.b(y), "parts": (y[:, :4], data["x"])}


def test_a_dict_goes_in_and_out():
    inputs = {"data": {"x": "2x0e+1x1o", "shift": "2x0e+1x1o"}, "scale": "1x0e"}
    graph = irprune.trace(DictNet().double(), inputs)
    assert list(graph.inputs) == ["x", "shift", "scale"]
    x = graph.example()
    net = DictNet().double()
    net.load_state_dict({k.removeprefix("inner."): v for k, v in graph.gm.state_dict().items()})
    out = graph.module()(*x)
    expected = net({"x": x[0], "shift": x[1]}, x[2])
    assert torch.equal(out["energy"], expected["energy"])
    assert torch.equal(out["parts"][1], x[0])
    assert_exact(graph, 0, 0.5)


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(UsageError) as caught:
        irprune.trace(DictNet(), {"data": {"x": "2x0e+1x1o"}, "x": "1x0e"})
    assert str(caught.value) == "inputs of DictNet: 'x' stands twice"
    with pytest.raises(UsageError) as caught:
        irprune.trace(DictNet(), {"data": {"x-y": "2x0e+1x1o"}})
    assert str(caught.value) == "inputs of DictNet: 'x-y' is no Python name"


def test_a_module_that_fails_says_so():
    class Wrong(Net):
        def forward(self, x):
            return self.flat(x)

    with pytest.raises(UsageError) as caught:
        irprune.trace(Wrong(flat=nn.Bilinear(2, 2, 2)).double(), {"x": "2x0e"})
    assert str(caught.value).startswith(
        "Wrong.forward fails on random inputs of the types given: TypeError: "
    )


# e3nn's own networks


def torch_scatter() -> ModuleType:
    """The function of torch_scatter that the models need, as its documentation defines it."""
    made = ModuleType("torch_scatter")

    def scatter(src, index, dim=-1, out=None, dim_size=None, reduce="sum"):
        if src.dim() != 2 or dim != 0 or reduce != "sum":  # looks at values: cannot be traced
            raise NotImplementedError
        total = [torch.zeros_like(src[0]) for _ in range(dim_size or int(index.max()) + 1)]
        for row, i in zip(src, index.tolist(), strict=True):
            total[i] = total[i] + row
        return torch.stack(total)

    made.scatter = scatter
    return made


@pytest.fixture
def scattered(monkeypatch):
    cluster = ModuleType("torch_cluster")
    cluster.radius_graph = None
    monkeypatch.setitem(sys.modules, "torch_scatter", torch_scatter())
    monkeypatch.setitem(sys.modules, "torch_cluster", cluster)
    yield
    for name in [n for n in sys.modules if n.startswith("e3nn.nn.models.")]:
        del sys.modules[name]


EDGES = {
    "edge_src": "index", "edge_dst": "index", "edge_attr": "0e+1o+2e", "edge_scalars": "4x0e",
}  # fmt: skip
NODES = {"node_features": "3x0e+2x1o", "node_attr": "2x0e"}
MIXED = "4x0e+2x0o+2x1e+3x1o"


def test_message_passing_of_2106():
    from e3nn.nn.models.v2106.gate_points_message_passing import MessagePassing

    torch.manual_seed(0)
    net = MessagePassing(["3x0e+2x1o", MIXED, "4x0e+3x1o", "2x0e+1x1o"], "2x0e", "0e+1o+2e",
                         [4, 8], 3.0)  # fmt: skip
    for layer in (net.layers[0].first, net.layers[1].first, net.layers[2]):
        nn.init.normal_(layer.alpha.weight)
    graph = irprune.trace(net.double(), NODES | EDGES)
    assert graph.blocks.barriers == []
    assert {a.kind for a in graph.axes()} == {"channel", "path", "radial"}
    assert "layers.0.second:1o" in {a.name for a in graph.axes()}
    assert_exact(graph, 0, 0.4)


def test_message_passing_of_2103(scattered):
    from e3nn.nn.models.v2103.gate_points_message_passing import MessagePassing

    torch.manual_seed(0)
    net = MessagePassing("3x0e+2x1o", MIXED, "2x0e+1x1o", "2x0e", "0e+1o+2e", 2, [4, 8], 3.0)
    graph = irprune.trace(net.double(), NODES | EDGES)
    assert graph.blocks.barriers == []
    assert_exact(graph, 0, 0.4)


def test_convolution_between_two_sets_of_nodes(scattered):
    from e3nn.nn.models.v2103.conv_points_in_out import Convolution

    torch.manual_seed(0)
    net = Convolution("3x0e+2x1o", "2x0e+1x1o", "2x0e", "3x0e", "0e+1o", 4, 1, 8, 3.0)
    inputs = {
        "node_input": "3x0e+2x1o", "node_attr_input": "2x0e", "node_attr_output": "3x0e",
        "edge_src": "index", "edge_dst": "index", "edge_attr": "0e+1o", "edge_scalar_attr": "4x0e",
    }  # fmt: skip
    graph = irprune.trace(net.double(), inputs)
    assert graph.blocks.barriers == []
    assert_exact(graph, 0, 0.4)


def neighbours(pos, r_max, batch):
    """All pairs of one structure; how many there are depends on values."""
    index = (batch[:, None] == batch[None]).nonzero().T
    return index[:, index[0] != index[1]]


def test_whole_network_from_positions():
    """SimpleNetwork of v2106, tetris-like: positions in, features of nodes out."""
    from e3nn.nn.models.v2106 import gate_points_networks as made

    from irprune.functional import traced_whole

    torch.manual_seed(0)
    net = made.SimpleNetwork("2x0e+1x1o", "1x0e+1x1o", 3.0, 3.0, 4.0, mul=3, layers=1, lmax=1,
                             pool_nodes=False).double()  # fmt: skip
    pairs = traced_whole(neighbours)
    graph = irprune.trace(
        net,
        {"data": {"pos": "1o", "x": "2x0e+1x1o", "batch": "index"}},
        replacements=[(made, "radius_graph", pairs)],
    )
    assert graph.blocks.barriers[0] == "neighbours"
    nodes = {a.node for a in graph.axes()}
    assert {"inner_mp_layers_0_first_lin1"} <= nodes
    assert_exact(graph, 0, 0.4)


def test_no_group_is_lost_between_traces():
    """Tracing leaves the module as it was: a second trace finds the same."""
    net = UserNet(["Masks", "Parameters"], 0).double()
    first, second = irprune.trace(net, GRAPH), irprune.trace(net, GRAPH)
    assert str(first) == str(second)
    assert np.array_equal(first.blocks.class_of, second.blocks.class_of)
