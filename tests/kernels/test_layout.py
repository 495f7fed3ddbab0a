"""Specs in both layouts: the same function of rows that lie otherwise, and how a spec says which."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from irprune.backends import backends, choose, convolve, kernel_for
from irprune.errors import UsageError
from irprune.irreps import IrrepsType, Layout
from irprune.kernels.triton.config import Config, config_for, pin, pinned
from irprune.kernels.tuner.architecture import architecture_named
from irprune.kernels.tuner.entry import key_of
from irprune.layers.dense import BlockLinear
from irprune.specs.layout import to_ir_mul, to_mul_ir
from irprune.specs.linear import LinearSpec
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec
from tests.kernels import specs
from tests.kernels.operands import assert_derivatives_equal, derivatives, inputs

pytestmark = pytest.mark.usefixtures("unscripted")

CPU = torch.device("cpu")
IRS = ("0e", "0o", "1e", "1o", "2e", "3o")
TERMS = st.lists(st.tuples(st.integers(1, 6), st.sampled_from(IRS)), min_size=1, max_size=4)
FEW = settings(max_examples=15, deadline=None, derandomize=True)


def text(terms):
    return "+".join(f"{mul}x{ir}" for mul, ir in terms)


def other_rows(function, first, last):
    """A function of ``mul_ir`` rows, made of one of ``ir_mul`` rows."""

    def made(x, *rest):
        return to_mul_ir(function(to_ir_mul(x, first), *rest), last)

    return made


@FEW
@given(TERMS, st.sampled_from(["0e+1o", "0e+1e+2e", "1o"]), st.integers(0, 2))
def test_a_convolution(terms, harmonics, lmax):
    product = specs.product(text(terms), harmonics, lmax)
    assume(product.instructions)
    spec = specs.path_spec(product)
    given = inputs(spec, nodes=3, edges=5)
    moved = spec.in_layout(Layout.IR_MUL)
    function = other_rows(lambda *a: convolve(moved, *a), spec.in1, spec.out)
    wanted = derivatives(lambda *a: convolve(spec, *a), *given)
    assert_derivatives_equal(derivatives(function, *given), wanted, 1e-12)


@FEW
@given(st.integers(1, 7), st.integers(1, 3))
def test_a_polynomial(channels, degree):
    spec = specs.polynomial(channels, degree)
    g = torch.Generator().manual_seed(0)
    shapes = ((4, spec.dims[0] * channels), (3, spec.n_paths, channels))
    x, w = (torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes)
    which = torch.tensor([0, 2, 2, 1])
    moved = spec.in_layout(Layout.IR_MUL)
    function = other_rows(moved.evaluate, *spec.segments)
    made = derivatives(function, x, w, which)
    assert_derivatives_equal(made, derivatives(spec.evaluate, x, w, which), 1e-12)


@st.composite
def linear_specs(draw):
    """Runs of segments of one irrep, some of them mixed with nothing."""
    groups, first, second = [], [], []
    for ir in draw(st.lists(st.sampled_from(IRS), min_size=1, max_size=4)):
        a, c = len(first), len(second)
        first += [(draw(st.integers(1, 5)), ir) for _ in range(draw(st.integers(1, 3)))]
        second += [(draw(st.integers(1, 5)), ir) for _ in range(draw(st.integers(1, 2)))]
        if draw(st.booleans()):
            groups.append((a, len(first) - 1, c, len(second) - 1))
    return LinearSpec(text(first), text(second), tuple(groups))


@FEW
@given(linear_specs(), st.integers(0, 4))
def test_a_linear_map(spec, rows):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(rows, spec.dims[0], generator=g, dtype=torch.float64)
    weights = [torch.randn(p.copies, generator=g, dtype=torch.float64) for p in spec.products]
    moved = spec.in_layout(Layout.IR_MUL)

    def call(function):
        return lambda x, *w: function(x, w)

    function = other_rows(call(moved.evaluate), spec.inputs, spec.outputs)
    leaves = [t.requires_grad_() for t in (x, *weights)]
    made, wanted = (derivatives_of(f, leaves) for f in (function, call(spec.evaluate)))
    for a, b in zip(made, wanted, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


def derivatives_of(function, leaves):
    """The result and its gradients, where it depends on the leaf."""
    out = function(*leaves)
    if not out.requires_grad:
        return [out]
    found = torch.autograd.grad(out.square().sum(), leaves, allow_unused=True)
    return [out, *(f for f in found if f is not None)]


def test_a_linear_map_in_ir_mul_moves_nothing():
    """Products of columns as they lie, and one concatenation: no copy of the operand."""
    spec = LinearSpec("4x0e+3x1o+2x1o", "5x0e+4x1o", ((0, 0, 0, 0), (1, 2, 1, 1)), Layout.IR_MUL)
    weights = [torch.randn(p.copies) for p in spec.products]
    ran = calls_of(lambda: spec.evaluate(torch.randn(6, 19), weights))
    assert ran.count("aten::cat") == 1
    assert not {"aten::clone", "aten::copy_", "aten::contiguous"} & set(ran)
    before = spec.in_layout(Layout.MUL_IR)
    assert "aten::clone" in calls_of(lambda: before.evaluate(torch.randn(6, 19), weights))


def calls_of(function):
    """Names of the torch operators that a call runs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found = []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    with Names():
        function()
    return found


def test_a_linear_map_is_split_as_its_operand_is():
    spec = LinearSpec("5x0e+7x1o+2x0e", "3x1o+2x0e", ((1, 1, 0, 0), (2, 2, 1, 1)))
    found = spec.split_as("2x0e+3x0e+3x1o+4x1o+2x0e")
    assert found.groups == ((2, 3, 0, 0), (4, 4, 1, 1))
    x = torch.randn(3, spec.dims[0])
    weights = [torch.randn(p.copies) for p in spec.products]
    assert torch.equal(found.evaluate(x, weights), spec.evaluate(x, weights))
    assert spec.split_as(spec.irreps_in) == spec
    with pytest.raises(UsageError, match=r"^5x0e and 5x0e\+7x1o\+2x0e are not the same irreps"):
        spec.split_as("5x0e")
    two = LinearSpec("2x0e+3x0e", "1x0e+1x0e", ((0, 0, 0, 0), (1, 1, 1, 1)))
    with pytest.raises(UsageError, match=r"^a segment of 5x0e reaches into two groups of 2x0e"):
        two.split_as("5x0e")


SPECS = {
    "path": lambda: specs.spec_named("odd"),
    "poly": lambda: specs.polynomial(3, 2),
    "linear": lambda: LinearSpec("3x0e+2x1o", "4x1o", ((1, 1, 0, 0),)),
}


@pytest.mark.parametrize("name", SPECS)
def test_json_text_and_key(name):
    """What was written before there were two layouts is read, and its key is what it was."""
    spec = SPECS[name]()
    kind = type(spec)
    assert "layout" not in spec.to_json()
    moved = spec.in_layout(Layout.IR_MUL)
    assert moved.to_json() == {**spec.to_json(), "layout": "ir_mul"}
    assert kind.from_json(json.loads(json.dumps(moved.to_json()))) == moved
    assert kind.from_json(spec.to_json()) == spec == moved.in_layout(Layout.MUL_IR)
    assert moved.key != spec.key
    assert " in ir_mul, " in str(moved).splitlines()[0]
    assert "ir_mul" not in str(spec)
    with pytest.raises(UsageError) as error:
        kind.from_json({**spec.to_json(), "layout": "rows"})
    assert str(error.value) == "unknown layout 'rows' of flat rows; known are mul_ir, ir_mul"


@pytest.mark.parametrize("name", SPECS)
def test_who_serves_ir_mul(name):
    """Never a conversion behind the user's back: backends of mul_ir decline by name."""
    spec = SPECS[name]().in_layout(Layout.IR_MUL)
    said = backends()["cpu"].supports(spec, CPU, torch.float64)
    assert str(said) == "cpu: reads rows in mul_ir; run lay-out{layout=mul_ir} for the CPU"
    assert said.loud
    assert choose(spec, CPU, torch.float64).backend == "reference"
    if isinstance(spec, PathSpec):
        there = backends()["openequivariance"].supports(spec, torch.device("cuda"), torch.float32)
        assert str(there) == (
            "openequivariance: is given rows in mul_ir here; the spec has them in ir_mul"
        )
    if isinstance(spec, PathSpec | PolySpec):
        gpu = backends()["triton"].supports(spec, torch.device("cuda"), torch.float32)
        assert gpu is None or "ir_mul" not in str(gpu)


def test_tuned_configurations_hold_for_both_layouts(monkeypatch):
    """The kernels are the same."""
    pytest.importorskip("triton")
    from irprune.kernels.triton import config

    monkeypatch.setattr(config, "_PINNED", {})
    spec = specs.spec_named("odd")
    moved, place = spec.in_layout(Layout.IR_MUL), architecture_named("sm_90")
    keys = [key_of(s, torch.float32, place, 32) for s in (spec, moved)]
    assert keys[0] == keys[1]
    assert keys[0].spec == spec.key
    pin(spec, torch.float32, Config(16, 1, 1, "atomic"))
    assert pinned(moved, torch.float32)
    assert config_for(moved, torch.float32).variant == "atomic"


def test_cuequivariance_gathers_nothing():
    """Only where the rows are in ir_mul and every segment is in a path."""
    pytest.importorskip("cuequivariance_torch")
    from irprune.kernels.cueq.backend import Product

    spec = specs.spec_named("odd")
    moved = spec.in_layout(Layout.IR_MUL)
    given = inputs(spec, nodes=3, edges=7)
    product = Product(moved, "naive")
    assert all(product.as_it_is.values())
    assert not all(Product(spec, "naive").as_it_is.values())
    kernel = kernel_for(moved, given[0], "cuequivariance")
    function = other_rows(kernel, spec.in1, spec.out)
    wanted = derivatives(lambda *a: convolve(spec, *a), *given)
    assert_derivatives_equal(derivatives(function, *given), wanted, 1e-11)
    names = calls_of(lambda: product(*given))
    assert "aten::index_copy" not in names


def test_types():
    t = IrrepsType.parse("3x0e+2x1o")
    moved = t.in_layout(Layout.IR_MUL)
    assert str(moved) == "node[3x0e+2x1o ir_mul]"
    assert not moved.same_units(t)
    assert moved.in_layout(Layout.MUL_IR) == t
    mask = torch.tensor([True, False, True, True, False]).numpy()
    marked = to_ir_mul(torch.arange(9).unsqueeze(0), t.segments)[0][moved.components(mask)]
    assert marked.tolist() == [0, 2, 3, 4, 5]
    scalars = IrrepsType.parse("3x0e+1x1o")
    assert scalars.in_layout(Layout.IR_MUL) == scalars
    rows = IrrepsType.parse("1x0e", layout=Layout.ROWS)
    with pytest.raises(
        UsageError, match=r"^node\[1x0e rows\] is not flat: it has no layout ir_mul"
    ):
        rows.in_layout(Layout.IR_MUL)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("2x1o+3x1o", "5x1o", False),
        ("2x0e+3x0e+4x1o", "5x0e+4x1o", True),
        ("2x0e+3x1o", "2x0e+0x2e+3x1o", True),
        ("2x0e+3x1o", "3x1o+2x0e", False),
    ],
)
def test_in_ir_mul_the_split_counts(a, b, same):
    first, second = (IrrepsType.parse(t).in_layout(Layout.IR_MUL) for t in (a, b))
    assert first.same_units(second) is same
    assert IrrepsType.parse(a).same_rows(IrrepsType.parse(b)) is same


def test_a_mask_is_widened_in_the_layout():
    from irprune.masked import widen

    t = IrrepsType.parse("2x0e+2x1o+3x2e").in_layout(Layout.IR_MUL)
    values = torch.arange(7.0)
    plain = widen(t.in_layout(Layout.MUL_IR), values)
    assert torch.equal(widen(t, values), to_ir_mul(plain.unsqueeze(0), t.segments)[0])


def test_a_block_linear_with_a_bias():
    given = ("3x0e+2x1o+2x0e", "2x0e+3x1o", ((0, 0, 0, 0), (1, 1, 1, 1)))
    plain, moved = BlockLinear(*given, bias=True), BlockLinear(*given, bias=True, layout="ir_mul")
    with torch.no_grad():
        for p in plain.parameters():
            p.normal_()
        plain.bias[2:] = 0
    moved.load_state_dict(plain.state_dict())
    plain, moved = plain.double(), moved.double()
    x = torch.randn(4, 11, dtype=torch.float64)
    function = other_rows(moved, plain.spec.inputs, plain.spec.outputs)
    assert torch.allclose(function(x), plain(x), rtol=0, atol=1e-12)
