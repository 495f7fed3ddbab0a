"""Types of values: what is refused, and that a message names both nodes; barriers."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from e3nn import nn as enn
from e3nn import o3
from torch import nn

from irprune.errors import IrrepsTypeError, UsageError
from irprune.functional import scatter_sum
from irprune.infer import check_shapes, example_inputs, parse_input
from irprune.irreps import IrrepsType, Space
from irprune.ops.base import UNKNOWN, Other, Site
from irprune.slicing import slice_graph
from tests.handmade import axis, error, trace, without

pytestmark = pytest.mark.usefixtures("unscripted")

V = {"x": "2x0e+1x1o"}


class Fused(nn.Module):
    """A user's module without an OpDef that fx cannot trace through."""

    def forward(self, x):
        return x * float(x.abs().max() > -1)


REFUSED = {
    "add-other-irreps": (
        lambda self, x, y: x + y,
        {"x": "2x0e+1x1o", "y": "2x0e+1x1e"},
        "add (add) adds x: node[2x0e+1x1o] and y: node[2x0e+1x1e]; both must carry the same"
        " irreps in the same order",
    ),
    "add-other-order": (
        lambda self, x, y: x + y,
        {"x": "1x0e+1x1o", "y": "1x1o+1x0e"},
        "add (add) adds x: node[1x0e+1x1o] and y: node[1x1o+1x0e]; both must carry the same"
        " irreps in the same order",
    ),
    "add-other-rows": (
        lambda self, x, edge: x + edge,
        {"x": "2x0e", "edge": "2x0e"},
        "add (add) combines values over different rows: x and edge are node[2x0e] and edge[2x0e]",
    ),
    "add-constant-to-vectors": (
        lambda self, x: x + 1.0,
        V,
        "add (add) adds a constant to x, which is node[2x0e+1x1o]: only scalars (l = 0) allow that",
    ),
    "multiply-vectors": (
        lambda self, x: x * x,
        {"x": "1x1o"},
        "mul (mul) multiplies x: node[1x1o] with x: node[1x1o]; only an invariant scalar per row"
        " scales irreps",
    ),
    "multiply-by-odd-scalar": (
        lambda self, x, y: x * y,
        {"x": "2x1o", "y": "1x0o"},
        "mul (mul) multiplies x: node[2x1o] with y: node[1x0o]; only an invariant scalar per row"
        " scales irreps",
    ),
    "multiply-by-parameters": (
        lambda self, x: x * self.w,
        {"x": "1x1o"},
        "mul (mul) multiplies x: node[1x1o] with a parameter of 3 numbers; only one number, or one"
        " per scalar, keeps equivariance",
    ),
    "divide-by-vectors": (
        lambda self, x: 1.0 / x,
        V,
        "truediv (truediv) divides by x: node[2x0e+1x1o]; only scalars (l = 0) allow that",
    ),
    "divide-scalar-by-vectors": (
        lambda self, x, y: y / x,
        {"x": "1x1o", "y": "1x0e"},
        "truediv (truediv) divides by x: node[1x1o]; only scalars (l = 0) allow that",
    ),
    "function-of-vectors": (
        lambda self, x: torch.tanh(x),
        V,
        "tanh (tanh) applies a function to x: node[2x0e+1x1o]; only even scalars (0e) allow an"
        " arbitrary function",
    ),
    "function-of-odd-scalars": (
        lambda self, x: torch.sigmoid(x),
        {"x": "2x0o"},
        "sigmoid (sigmoid) applies a function to x: node[2x0o]; only even scalars (0e) allow an"
        " arbitrary function",
    ),
    "cut-through-a-vector": (
        lambda self, x: x[:, :3],
        V,
        "getitem (getitem) takes components 0:3 of x: node[2x0e+1x1o], which cuts through an irrep",
    ),
    "narrow-through-a-vector": (
        lambda self, x: x.narrow(-1, 3, 2),
        V,
        "narrow (narrow) takes components 3:5 of x: node[2x0e+1x1o], which cuts through an irrep",
    ),
    "concatenate-other-rows": (
        lambda self, x, edge: torch.cat([x, edge], dim=1),
        {**V, "edge": "1x0e"},
        "cat (cat) concatenates different rows: x: node[2x0e+1x1o], edge: edge[1x0e]",
    ),
    "wrong-operand-of-linear": (
        lambda self, x: self.linear(x),
        {"x": "1x1o+2x0e"},
        "linear (module linear) expects 2x0e+1x1o as operand 0, but x gives node[1x1o+2x0e]",
    ),
    "wrong-operand-of-product": (
        lambda self, x, y: self.tp(x, y),
        {**V, "y": "2x0e"},
        "tp (module tp) expects 1x0e+1x1o as operand 1, but y gives node[2x0e]",
    ),
    "product-over-other-rows": (
        lambda self, x, edge: self.tp(x, edge),
        {**V, "edge": "1x0e+1x1o"},
        "tp (module tp) combines values over different rows: x and edge are node[2x0e+1x1o] and"
        " edge[1x0e+1x1o]",
    ),
    "index-for-a-linear": (
        lambda self, i: self.linear(i),
        {"i": "index"},
        "linear (module linear) needs irreps as operand 0, but i is index[node]",
    ),
}


UNKNOWN_FORMS = {
    "one-row": (
        lambda self, x: x[0],
        V,
        "getitem (getitem) indexes x: node[2x0e+1x1o] with 0; known are rows x[index] and columns"
        " x[:, a:b]",
    ),
    "select-columns": (
        lambda self, x, i: x.index_select(1, i),  # torch_geometric replaces torch.index_select
        {**V, "i": "index"},
        "index_select (index_select): only rows (dim 0) can be selected, got dim=1",
    ),
    "stack-rows": (
        lambda self, x, y: torch.cat([x, y]),
        {**V, "y": "2x0e+1x1o"},
        "cat (cat) concatenates along dim=0; known is the last",
    ),
    "weights-from-outside": (
        lambda self, x, w: self.external(x, w),
        {**V, "w": "5x0e"},
        "external (module external): a Linear with external weights has no OpDef; give it internal"
        " ones",
    ),
    "norm-of-several": (
        lambda self, x: torch.linalg.norm(x, dim=1),
        V,
        "linalg_norm (linalg_norm) takes a norm of x: node[2x0e+1x1o] over dim=1; only the norm of"
        " a single irrep per row over its components is known",
    ),
    "squeeze-of-several": (
        lambda self, x: x.squeeze(-1),
        V,
        "squeeze (squeeze) squeezes x: node[2x0e+1x1o]; known is squeeze(-1) of one scalar",
    ),
}


def parts():
    return {
        "linear": o3.Linear("2x0e+1x1o", "1x0e"),
        "tp": o3.FullyConnectedTensorProduct("2x0e+1x1o", "1x0e+1x1o", "1x0e"),
        "external": o3.Linear(
            "2x0e+1x1o", "2x0e+1x1o", internal_weights=False, shared_weights=False
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused(name):
    forward, inputs, message = REFUSED[name]
    made = parts()
    if name == "multiply-by-parameters":
        made["w"] = nn.ParameterList([nn.Parameter(torch.ones(3))])
        forward = lambda self, x: x * self.w[0]  # noqa: E731
    with pytest.raises(IrrepsTypeError) as caught:
        trace(forward, inputs, **made)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", list(UNKNOWN_FORMS))
def test_a_form_that_no_op_knows_is_a_barrier(name):
    forward, inputs, message = UNKNOWN_FORMS[name]
    if name == "select-columns":
        inputs = {**inputs, "i": "index"}
    graph = trace(forward, inputs, **parts())
    (barrier,) = graph.blocks.barriers
    assert graph.sites[barrier].why == message
    assert graph.sites[barrier].out == UNKNOWN
    where = f"barrier {graph.sites[barrier].where} at tests/test_infer.py:"
    assert any(line.startswith(where) for line in graph.groups().splitlines())


def test_scalar_without_a_feature_axis_does_not_scale_columns():
    """[N] against [N, dim] would broadcast along the wrong axis."""
    with pytest.raises(IrrepsTypeError) as caught:
        trace(lambda self, x, y: x * y.squeeze(-1), {**V, "y": "1x0e"})
    assert str(caught.value) == (
        "mul (mul) multiplies x: node[2x0e+1x1o] with squeeze: node[1x0e rows]; only an invariant"
        " scalar per row scales irreps"
    )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("x", "2x0e+1o", "node[2x0e+1x1o]"),
        ("edge_attr", "1o", "edge[1x1o]"),
        ("senders", "index", "index[edge]"),
        ("batch", "index", "index[node]"),
        ("x", "graph:3x0e", "graph[3x0e]"),
        ("x", "edge:2x0e + 2x1o ir_mul", "edge[2x0e+2x1o ir_mul]"),
        ("edge_len", "node:1x0e", "node[1x0e]"),
        ("edge_index", "edge_index", "edge_index"),
        ("x", "edge:index", "index[edge]"),
        ("charge", "scalar", "node[1x0e]"),
    ],
)
def test_parse_input(name, text, expected):
    assert str(parse_input(name, text)) == expected


def test_parse_input_errors():
    with pytest.raises(UsageError) as caught:
        parse_input("x", "atom:2x0e")
    assert (
        str(caught.value) == "input 'x': cannot read 'atom:2x0e': 'atom' is not node, edge or graph"
    )
    with pytest.raises(UsageError, match="cannot read irreps '2y0e'"):
        parse_input("x", "2y0e")


def test_inputs_must_name_the_arguments():
    with pytest.raises(UsageError) as caught:
        trace(lambda self, x, y: x + y, {"x": "1x0e", "z": "1x0e"})
    assert str(caught.value) == (
        "inputs must name the arguments of forward, x, y; missing: y; not an argument: z"
    )


def test_spaces_follow_gather_and_scatter():
    graph = trace(
        lambda self, x, src, dst: scatter_sum(x[src], dst, dim=0, dim_size=x.shape[0]),
        {**V, "src": "index", "dst": "index"},
    )
    assert graph.type_of("getitem").space is Space.EDGE
    assert graph.type_of("scatter_sum") == graph.inputs["x"]


def test_check_shapes_catches_a_wrong_type():
    graph = trace(lambda self, x: self.linear(x), V, linear=o3.Linear("2x0e+1x1o", "1x1o+1x0e"))
    site = graph.sites["linear"]
    wrong = Site(site.node, site.module, site.operands, site.types, IrrepsType.parse("2x1o"))
    with pytest.raises(IrrepsTypeError) as caught:
        check_shapes(graph.gm, {**graph.sites, "linear": wrong}, graph.inputs)
    assert str(caught.value) == (
        "linear (module linear) was typed node[2x1o] (row shape (6,)), but gives a tensor of shape"
        " (4, 4)"
    )


def test_example_inputs_are_repeatable_and_grow():
    inputs = {"x": IrrepsType.parse("2x0e+1x1o"), "src": Other("index", rows="edge")}
    first, again = example_inputs(inputs, 3), example_inputs(inputs, 3)
    assert torch.equal(first["x"], again["x"])
    assert torch.equal(first["src"], again["src"])
    assert not torch.equal(first["x"], example_inputs(inputs, 4)["x"])
    big = example_inputs(inputs, 3, grow=2)
    assert big["x"].shape == (first["x"].shape[0] + 2, 5)
    assert first["src"].max() < first["x"].shape[0]


FUSED_LINE = (
    "barrier f (module f) at tests/test_infer.py:N: its forward cannot be traced: TypeError: float()"
    " argument must be a string or a real number, not 'Proxy'; register an op:"
)


def check_frozen(graph, barrier):
    assert graph.blocks.barriers == [barrier.partition(" ")[0]]
    assert FUSED_LINE in [re.sub(r":\d+: ", ":N: ", text) for text in graph.groups().splitlines()]
    assert graph.groups().splitlines()[-4] == "    @irprune.register_op"
    nodes = {a.node for a in graph.axes()}
    assert nodes == {"a", "d"}
    graph = without(graph, {"a:0e": [0, 2], "d:1o": [1]})
    assert error(graph) <= 1e-12
    assert slice_graph(graph).type_of("b").irreps == "3x0e+2x1o"


def layers():
    return {
        "a": o3.Linear("2x0e+1x1o", "4x0e+2x1o"),
        "b": o3.Linear("4x0e+2x1o", "3x0e+2x1o"),
        "d": o3.Linear("2x0e+1x1o", "1x0e+2x1o"),
        "e": o3.Linear("1x0e+2x1o", "3x0e+2x1o"),
    }


def test_unregistered_function_freezes_its_operand_only():
    graph = trace(
        lambda self, x: torch.flip(self.b(self.a(x)), (0,)) + self.e(self.d(x)), V, **layers()
    )
    assert graph.blocks.barriers == ["flip"]
    graph = without(graph, {"a:0e": [0, 2], "d:1o": [1]})
    assert error(graph) <= 1e-12


def test_unregistered_module_is_one_frozen_node():
    graph = trace(
        lambda self, x: self.f(self.b(self.a(x))) + self.e(self.d(x)), V, f=Fused(), **layers()
    )
    check_frozen(graph, "f (module f)")


def test_what_follows_a_barrier_is_typed_by_the_layers_that_read_it():
    """The operand of a barrier and its result stay whole; behind it pruning goes on."""
    gate = enn.Gate("2x0e", [torch.tanh], "1x0e", [torch.tanh], "1x1o")
    graph = trace(
        lambda self, x, y: self.end(
            self.tp(self.gate(self.f(self.a(x))), x, self.net(self.g(y))), x
        ),
        {**V, "y": "2x0e"},
        a=o3.Linear("2x0e+1x1o", gate.irreps_in),
        f=Fused(),
        g=Fused(),
        gate=gate,
        net=enn.FullyConnectedNet([2, 4, 2], torch.tanh),
        tp=o3.TensorProduct(
            "2x0e+1x1o", "2x0e+1x1o", "2x1o", [(0, 1, 0, "uvu", True)], shared_weights=False
        ),
        end=o3.FullyConnectedTensorProduct("2x1o", "2x0e+1x1o", "1x0e"),
    )
    assert graph.blocks.barriers == ["f", "g"]
    assert str(graph.type_of("f")) == "node[3x0e+1x1o]"
    assert str(graph.type_of("g")) == "node[2x0e]"
    assert {a.node for a in graph.axes()} == {"net", "tp", "end"}
    assert error(without(graph, {"net.hidden0": [1, 2]})) <= 1e-12


def test_nothing_after_a_barrier_that_no_layer_reads_is_pruned():
    graph = trace(
        lambda self, x: torch.tanh(self.f(self.a(x))) * 2.0,
        V,
        a=o3.Linear("2x0e+1x1o", "4x0e"),
        f=Fused(),
    )
    assert graph.blocks.barriers == ["f"]
    assert str(graph.type_of("mul")) == "unknown"
    assert graph.axes() == ()
    assert graph.stats().params == 8
    sliced = slice_graph(graph)
    x = graph.example()
    assert torch.equal(sliced.gm(*x), graph.gm(*x))


def test_before_a_barrier_they_are_not_alone():
    """The radial network of the test above has neurons to prune where no barrier precedes it."""
    graph = trace(
        lambda self, y: self.net(y), {"y": "2x0e"}, net=enn.FullyConnectedNet([2, 4, 2], torch.tanh)
    )
    assert len(axis(graph, "net.hidden0").groups) == 4
    assert np.count_nonzero(graph.blocks.fixed_classes) == 4
