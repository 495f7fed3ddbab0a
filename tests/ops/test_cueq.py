"""Layers of cuEquivariance as ops: each held to all promises, in both layouts."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from e3nn import o3
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import irprune
from irprune.errors import IrrepsTypeError
from irprune.irreps import IrrepsType, Layout
from irprune.ops import folds
from irprune.ops.cueq.transpose import order_of
from irprune.slicing import slice_graph
from irprune.testing import conform, random_irreps
from irprune.verification.ladder import masked_sliced_rung
from tests.handmade import error, trace, without

cue = pytest.importorskip("cuequivariance")
cuet = pytest.importorskip("cuequivariance_torch")
O3_e3nn = pytest.importorskip("cuequivariance.group_theory.experimental.e3nn").O3_e3nn
pytestmark = pytest.mark.usefixtures("unscripted")

LAYOUTS = ("mul_ir", "ir_mul")


def irreps(text):
    return cue.Irreps(O3_e3nn, text)


def typed(text, layout):
    return f"{text} {layout}".removesuffix(" mul_ir")


def linear(rng, layout):
    a, b = random_irreps(rng), random_irreps(rng)
    b = f"{b}+2x{a.split('x')[1].split('+')[0]}"
    made = cuet.Linear(irreps(a), irreps(b), layout=getattr(cue, layout), method="naive")
    return made, {"x": typed(a, layout)}


def mixed(rng, layout):
    """From one layout to the other."""
    a = random_irreps(rng)
    other = "ir_mul" if layout == "mul_ir" else "mul_ir"
    layouts = {"layout_in": getattr(cue, layout), "layout_out": getattr(cue, other)}
    return cuet.Linear(irreps(a), irreps(a), method="naive", **layouts), {"x": typed(a, layout)}


def channelwise(rng, layout, **options):
    a, b = random_irreps(rng, lmax=1), random_irreps(rng, lmax=1, mul=2, segments=2)
    made = cuet.ChannelWiseTensorProduct(
        irreps(a), irreps(b), layout=getattr(cue, layout), method="naive", **options
    )
    return made, {"x": typed(a, layout), "y": typed(b, layout)}


def per_row(rng, layout):
    made, inputs = channelwise(rng, layout, shared_weights=False, internal_weights=False)
    return made, {**inputs, "w": f"{made.weight_numel}x0e"}


def connected(rng, layout, **options):
    a, b = random_irreps(rng, lmax=1), random_irreps(rng, lmax=1, mul=2, segments=2)
    out = [(2, ir) for ir in {ir for _, x in irreps(a) for _, y in irreps(b) for ir in x * y}]
    out = irreps("+".join(f"{2 + i % 2}x{ir}" for i, (_, ir) in enumerate(sorted(out)[:3])))
    made = cuet.FullyConnectedTensorProduct(
        irreps(a), irreps(b), out, layout=getattr(cue, layout), method="naive", **options
    )
    return made, {"x": typed(a, layout), "y": typed(b, layout)}


def connected_per_row(rng, layout):
    made, inputs = connected(rng, layout, shared_weights=False, internal_weights=False)
    return made, {**inputs, "w": f"{made.weight_numel}x0e"}


def contraction(rng, layout, original=False):
    k = int(rng.integers(2, 5))
    a, b = f"{k}x0e+{k}x1o", f"{k}x1o+{k}x0e"
    made = cuet.SymmetricContraction(
        irreps(a), irreps(b), 2, 9, layout=getattr(cue, layout), dtype=torch.float64,
        original_mace=original, method="naive",
    )  # fmt: skip
    return made, {"x": typed(a, layout), "i": "index"}


def redundant(rng, layout):
    return contraction(rng, layout, original=True)


def transpose(rng, layout):
    a = random_irreps(rng, lmax=1) + "+3x1o"
    other = "ir_mul" if layout == "mul_ir" else "mul_ir"
    made = cuet.TransposeIrrepsLayout(
        irreps(a), source=getattr(cue, layout), target=getattr(cue, other)
    )
    return made, {"x": typed(a, layout)}


MAKERS = {
    f.__name__: f
    for f in (
        linear, mixed, channelwise, per_row, connected, connected_per_row, contraction, redundant,
        transpose,
    )
}  # fmt: skip


QUICK = {
    ("linear", "mul_ir"), ("mixed", "ir_mul"), ("channelwise", "ir_mul"), ("per_row", "mul_ir"),
    ("connected", "mul_ir"), ("connected_per_row", "ir_mul"), ("contraction", "ir_mul"),
    ("transpose", "mul_ir"),
}  # fmt: skip
ALL = [
    pytest.param(name, layout, marks=() if (name, layout) in QUICK else pytest.mark.slow)
    for name in MAKERS
    for layout in LAYOUTS
]


@pytest.mark.parametrize(("name", "layout"), ALL)
def test_conforms(name, layout):
    conform(lambda rng: MAKERS[name](rng, layout), seeds=(1,) if layout == "mul_ir" else (2,))


class Network(nn.Module):
    """A message, a contraction and a readout in one layout, between e3nn's own layers."""

    def __init__(self, layout, first="4x0e+4x1o"):
        super().__init__()
        one, hidden, k = getattr(cue, layout), irreps(first), irreps("3x0e+3x1o")
        plain = {"layout": one, "method": "naive"}
        self.there = cuet.TransposeIrrepsLayout(hidden, source=cue.mul_ir, target=one)
        self.up = cuet.Linear(hidden, hidden, **plain)
        self.conv = cuet.ChannelWiseTensorProduct(
            hidden, irreps("0e+1o"), irreps("0e+1o"), shared_weights=False, **plain
        )
        self.radial = nn.Linear(5, self.conv.weight_numel, bias=False)
        self.mix = cuet.Linear(self.conv.irreps_out, k, **plain)
        self.contract = cuet.SymmetricContraction(k, k, 2, 9, **plain)
        self.behind = cuet.Linear(k, hidden, **plain)
        self.skip = cuet.FullyConnectedTensorProduct(hidden, irreps("3x0e"), hidden, **plain)
        self.back = cuet.TransposeIrrepsLayout(hidden, source=one, target=cue.mul_ir)
        self.readout = o3.Linear(first, "2x0e+1x1o")

    def forward(self, x, edge_y, edge_r, attributes, species, edge_index):
        x = self.there(x)
        message = self.conv(self.up(x)[edge_index[0]], edge_y, self.radial(edge_r))
        rows = message.new_zeros(x.shape[0], message.shape[1])
        message = self.mix(rows.index_add(0, edge_index[1], message))
        x = self.behind(self.contract(message, species)) + self.skip(x, attributes)
        return self.readout(self.back(x))


INPUTS = {
    "x": "4x0e+4x1o", "edge_y": "0e+1o", "edge_r": "5x0e", "attributes": "3x0e",
    "species": "index", "edge_index": "edge_index",
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_network_is_pruned_in_its_own_layout(layout, tmp_path):
    torch.manual_seed(0)
    graph = irprune.trace(Network(layout).double(), INPUTS)
    assert not graph.blocks.barriers
    wanted = "node[4x0e+4x1o]" if layout == "mul_ir" else "node[4x0e+4x1o ir_mul]"
    assert f"%up : {wanted} = cue-linear(" in str(graph)
    for by in ("magnitude", "random"):
        small = irprune.run(f"score{{by={by}}},select{{keep=0.5,scope=axis}},slice", graph)
        assert small.stats().params < 0.6 * graph.stats().params
        check = masked_sliced_rung(small, None)
        assert check.value <= 1e-10, check
    small.save(str(tmp_path / "small.irp"))
    again = irprune.load(tmp_path / "small.irp")
    assert again.text() == small.text()
    inputs = small.example(seed=1)
    assert torch.equal(again.module()(*inputs), small.module()(*inputs))


def test_both_layouts_lose_the_same_blocks_to_the_same_function():
    kept, values = [], []
    for layout in LAYOUTS:
        torch.manual_seed(0)
        graph = irprune.trace(Network(layout).double(), INPUTS)
        small = irprune.run("score{by=magnitude},select{keep=0.5,scope=axis},slice", graph)
        kept.append(small.origin.keep)
        values.append(small.module()(*small.example(seed=1)))
    assert np.array_equal(*kept)
    torch.testing.assert_close(*values, rtol=1e-12, atol=1e-12)


def test_functions_between_layers_in_ir_mul():
    """Sums, one number per row, whole segments, concatenations, scalars as in ``mul_ir``."""
    first, second = irreps("3x0e+2x1o"), irreps("3x0e+2x1o+2x1o+3x0e")
    options = {"layout": cue.ir_mul, "method": "naive"}

    def forward(self, x, y):
        x = self.first(x)
        scalars, vectors = x[:, :3], x.narrow(-1, 3, 6)
        x = torch.cat([x, vectors * y, torch.nn.functional.silu(scalars)], dim=-1)
        return self.last(self.second(x) + x)

    graph = trace(
        forward,
        {"x": "3x0e+2x1o ir_mul", "y": "0e"},
        first=cuet.Linear(first, first, **options),
        second=cuet.Linear(second, second, **options),
        last=cuet.Linear(second, irreps("0e+1o"), **options),
    )
    assert not graph.blocks.barriers
    graph = graph.replace(
        keep=irprune.run("score{by=random},select{keep=0.5,scope=axis}", graph).keep
    )
    assert not graph.keep.all()
    assert error(graph) <= 1e-10


def test_activations_are_counted_by_copy_in_both_layouts():
    from irprune.passes.criteria.activation import _mean_squares

    t = IrrepsType.parse("2x0e+3x1o+2x2e")
    other = IrrepsType.parse("2x0e+3x1o+2x2e", layout=Layout.IR_MUL)
    x = torch.randn(5, t.dim, dtype=torch.float64)
    moved = x[:, order_of(t, Layout.IR_MUL)]
    assert np.allclose(_mean_squares(t, x), _mean_squares(other, moved), rtol=1e-14)
    assert torch.equal(moved[:, order_of(other, Layout.MUL_IR)], x)


@pytest.mark.parametrize("name", ["linear", "connected"])
def test_without_the_fold_slicing_is_wrong(name, monkeypatch):
    module, inputs = MAKERS[name](np.random.default_rng(1), "mul_ir")
    module = module.double()
    before = [o3.Linear(t, t) for t in inputs.values()]
    behind = o3.Linear(str(module.irreps_out), "1x0e+1x0o+1x1e+1x1o+1x2e+1x2o")
    parts = {f"before{i}": part for i, part in enumerate(before)}

    def forward(self, x, y=None):
        args = [getattr(self, n)(v) for n, v in zip(parts, (x, y), strict=False)]
        return self.behind(self.op(*args))

    def alone(self, x):
        return forward(self, x)

    def two(self, x, y):
        return forward(self, x, y)

    f = alone if len(inputs) == 1 else two
    graph = trace(f, inputs, op=module, behind=behind, **parts)
    graph = graph.replace(
        keep=irprune.run("score{by=random},select{keep=0.5,scope=axis}", graph).keep
    )
    assert error(graph) <= 1e-10
    monkeypatch.setattr(folds, "segmented_path", lambda old, new: 1.0)
    assert error(graph) > 1e-3


def test_a_path_can_go_alone():
    """No layer of cuEquivariance can be made without it: the layer gets a descriptor of its own."""
    layer = cuet.ChannelWiseTensorProduct(
        irreps("3x0e+2x1o"), irreps("0e+1o"), layout=cue.mul_ir, method="naive"
    )
    graph = trace(
        lambda self, x, y: self.behind(self.op(self.first(x), y)),
        {"x": "3x0e+2x1o", "y": "0e+1o"},
        first=o3.Linear("3x0e+2x1o", "3x0e+2x1o"),
        op=layer,
        behind=o3.Linear(str(layer.irreps_out), "1x0e+1x1o"),
    )
    graph = without(graph, {"op.path": [1]})
    assert error(graph) <= 1e-10
    small = slice_graph(graph).gm.op
    assert type(small) is cuet.ChannelWiseTensorProduct
    assert small.weight.shape == (1, small.weight_numel)
    assert str(small.irreps_out) == "3x0e+3x1o+2x1o"  # without 1o x 1o -> 0e, and what is not read
    assert small.f._polynomial_orig.operations[0][1].num_paths == 3


def reason(module, inputs, **options):
    graph = irprune.trace(module, inputs, **options)
    (node,) = graph.blocks.barriers
    return graph.sites[node].why


class Called(nn.Module):
    """A layer called with further arguments."""

    def __init__(self, op, **further):
        super().__init__()
        self.op, self.further = op, further

    def forward(self, x, y):
        return self.op(x, y, **self.further)


def test_forms_that_are_not_known_are_barriers():
    plain = {"layout": cue.mul_ir, "method": "naive"}
    hidden = irreps("2x0e+2x1o")
    classes = cuet.Linear(hidden, hidden, weight_classes=9, **plain)
    assert reason(ByClass(classes), {"x": "2x0e+2x1o", "species": "index"}).startswith(
        "op (module op): a Linear of cuEquivariance with external weights or with weight_classes"
        " (9) has no OpDef"
    )
    single = cuet.FullyConnectedTensorProduct(
        hidden, irreps("0e"), hidden, math_dtype=torch.float32, **plain
    )
    assert reason(Called(single), {"x": "2x0e+2x1o", "y": "0e"}) == (
        "op (module op) computes in float32 whatever its inputs are (math_dtype); make it without"
        " math_dtype and with the method naive or uniform_1d"
    )
    half = cue.Irreps(cue.SU2, "2x1/2")
    spin = cuet.Linear(half, half, **plain)
    assert reason(ByOne(spin), {"x": "4x0e"}) == ("irreps of the group SU2; known are O3 and SO3")


class ByOne(nn.Module):
    def __init__(self, op):
        super().__init__()
        self.op = op

    def forward(self, x):
        return self.op(x)


class ByClass(ByOne):
    def forward(self, x, species):
        return self.op(x, weight_indices=species)


class Gathered(ByOne):
    def forward(self, x, y, edge_index):
        return self.op(x, y, indices_1=edge_index[0], indices_2=edge_index[0])


def test_rows_that_are_gathered_inside_are_a_barrier():
    hidden = irreps("2x0e+2x1o")
    layer = cuet.ChannelWiseTensorProduct(
        hidden, irreps("0e"), layout=cue.mul_ir, method="naive", math_dtype=None
    )
    inputs = {"x": "2x0e+2x1o", "y": "0e", "edge_index": "edge_index"}
    assert "known are internal weights, or weights per row, and rows that are gathered and" in (
        reason(Gathered(layer), inputs)
    )


def test_layouts_that_do_not_fit_are_told():
    layer = cuet.Linear(irreps("2x0e+2x1o"), irreps("2x0e+2x1o"), layout=cue.ir_mul, method="naive")
    with pytest.raises(IrrepsTypeError) as caught:
        trace(lambda self, x: self.op(x), {"x": "2x0e+2x1o"}, op=layer)
    assert str(caught.value) == (
        "op (module op) expects 2x0e+2x1o in layout ir_mul as operand 0, but x gives"
        " node[2x0e+2x1o]"
    )
    with pytest.raises(IrrepsTypeError) as caught:
        trace(
            lambda self, x: self.last(self.op(x)),
            {"x": "2x0e+2x1o ir_mul"},
            op=layer,
            last=o3.Linear("2x0e+2x1o", "0e"),
        )
    assert str(caught.value) == (
        "last (module last) expects 2x0e+2x1o as operand 0, but op gives node[2x0e+2x1o ir_mul]"
    )
    with pytest.raises(IrrepsTypeError, match=r"whose copies are not contiguous; only whole segm"):
        trace(lambda self, x: self.op(x)[:, 2:5], {"x": "2x0e+2x1o ir_mul"}, op=layer)


def test_a_transposition_for_other_irreps_is_a_barrier():
    layer = cuet.TransposeIrrepsLayout(irreps("2x1o+1x1o"), source=cue.mul_ir, target=cue.ir_mul)
    assert reason(ByOne(layer), {"x": "3x1o"}) == (
        "op (module op) was not made for 3x1o, which x gives"
    )


def test_the_cost_of_a_linear_map_is_what_torch_counts():
    made = cuet.Linear(irreps("8x0e+4x1o"), irreps("6x0e+5x1o+3x0e"), layout=cue.mul_ir)
    graph = irprune.trace(nn.Sequential(made.double()), {"input": "8x0e+4x1o"})
    with FlopCounterMode(display=False) as counter:
        made(torch.randn(10, 20, dtype=torch.float64))
    assert counter.get_total_flops() == 10 * graph.stats().matmul_flops_per_atom
    assert graph.stats().params == made.weight.numel()


def test_a_layer_whose_segments_are_no_longer_alike_says_that_it_runs_naive():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without its CUDA kernels
        layer = cuet.ChannelWiseTensorProduct(
            irreps("4x0e+4x1o"), irreps("0e+1o"), layout=cue.mul_ir, dtype=torch.float64
        )
    assert layer.method == "uniform_1d"
    parts = {
        "first": o3.Linear("4x0e+4x1o", "4x0e+4x1o"),
        "op": layer,
        "last": o3.Linear(str(layer.irreps_out), "0e+1o"),
    }
    graph = trace(
        lambda self, x, y: self.last(self.op(self.first(x), y)),
        {"x": "4x0e+4x1o", "y": "0e+1o"},
        **parts,
    )
    even = without(graph, {"first:0e": [0], "first:1o": [1]})
    assert slice_graph(even).gm.op.method == "uniform_1d"
    with pytest.warns(UserWarning, match=r"^op \(module op\): its segments are not all alike any"):
        small = slice_graph(without(graph, {"first:0e": [0]}))
    assert small.gm.op.method == "naive"


def test_nothing_is_imported_without_such_layers():
    code = """
import sys
sys.modules["cuequivariance"] = sys.modules["cuequivariance_torch"] = None
import irprune.ops
from irprune.ops.installed import load_ops
load_ops()
from irprune.ops.base import op_named
print(op_named("cue-linear").name, [m for m in sys.modules if m.startswith("cuequiv")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "cue-linear ['cuequivariance', 'cuequivariance_torch']\n", done.stderr
