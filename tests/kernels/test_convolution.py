"""The compiled convolution against einsum: values, first and second derivatives, threads, edges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from irprune.backends import convolve, kernel_for, remember
from irprune.edges import pack
from irprune.errors import LegalityError, UsageError
from irprune.irreps import Segment
from irprune.kernels.cpu import ops
from irprune.layers.convolution import Convolution
from irprune.ops.couplings import path_spec
from irprune.specs.path import PathSpec, SpecPath
from tests.kernels import specs
from tests.kernels.operands import derivatives, inputs

pytestmark = pytest.mark.usefixtures("unscripted")

NAMES = [*specs.PRODUCTS, "shared"]


def assert_equal(spec, given, tolerance):
    ours = derivatives(kernel_for(spec, given[0], "cpu"), *given)
    theirs = derivatives(lambda *a: convolve(spec, *a), *given)
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).detach().abs().max()) <= tolerance * max(
            1.0, float(b.detach().abs().max())
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_reference(name, dtype):
    spec = specs.spec_named(name)
    before = dict(ops.CALLS)
    assert_equal(spec, inputs(spec, dtype=dtype), 1e-13 if dtype is torch.float64 else 2e-5)
    assert ops.CALLS["convolution"] > before.get("convolution", 0)
    assert ops.CALLS["convolution_backward"] > before.get("convolution_backward", 0)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_two_edges_share_a_row_of_weights(threads):
    spec = specs.spec_named("odd")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_equal(spec, inputs(spec, nodes=9, edges=31, rows=17), 1e-13)
    finally:
        torch.set_num_threads(before)


@settings(max_examples=10, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
@given(nodes=st.integers(1, 9), edges=st.integers(0, 40), seed=st.integers(0, 99))
def test_any_graph(nodes, edges, seed):
    spec = specs.spec_named("odd")
    assert_equal(spec, inputs(spec, nodes, edges, seed=seed), 1e-13) if edges else None
    x, y, w, lists = inputs(spec, nodes, edges, seed=seed)
    out = kernel_for(spec, x, "cpu")(x, y, w, lists)
    assert torch.allclose(out, convolve(spec, x, y, w, lists), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_is_the_module(name):
    """The oracle itself against e3nn's own code."""
    m = specs.shared_output() if name == "shared" else specs.product(*specs.PRODUCTS[name])
    m = m.double()
    spec = path_spec(m)
    x, y, w = (
        torch.randn(8, n, dtype=torch.float64)
        for n in (m.irreps_in1.dim, m.irreps_in2.dim, m.weight_numel)
    )
    limit = 2e-7  # the module was made in float32, the special cases of e3nn are exact
    assert torch.allclose(spec.evaluate(x, y, w), m(x, y, w), rtol=0, atol=limit)


def test_a_spec_has_the_constants_of_the_module():
    """To the last bit: in float64 the spec equals a module whose constants are float32."""
    m = specs.product("3x1o+2x2e", "1o+2e").double()
    tables = [b for n, b in m.named_buffers() if "_w3j_" in n]
    assert any(float((b - b.float().double()).abs().max()) == 0.0 for b in tables)
    x, y, w = (
        torch.randn(8, n, dtype=torch.float64)
        for n in (m.irreps_in1.dim, m.irreps_in2.dim, m.weight_numel)
    )
    assert torch.allclose(path_spec(m).evaluate(x, y, w), m(x, y, w), rtol=0, atol=1e-13)
    with torch.no_grad():
        tables[0] *= 1 + 1e-5
    assert torch.allclose(path_spec(m).evaluate(x, y, w), m(x, y, w), rtol=0, atol=1e-13)


def test_text_json_and_key():
    spec = specs.spec_named("scalars")
    assert PathSpec.from_json(spec.to_json()) == spec
    assert hash(PathSpec.from_json(spec.to_json())) == hash(spec)
    assert str(spec) == (
        f"7x0e * 1x0e+1x1o -> 7x0e+7x1o, {spec.key}\n"
        "  7x0e [0] * 0e [0] -> 7x0e [0]: weights 0..7, coefficient 0.707107, 1 couplings\n"
        "  7x0e [0] * 1o [1] -> 7x1o [1]: weights 7..14, coefficient 1.5, 3 couplings"
    )
    other = specs.spec_named("odd")
    assert other.key != spec.key
    assert spec.bytes(4) == 4 * (7 + 4 + 28 + 14)
    assert spec.flops() == 2.0 * 7 * (1 + 1) + 2.0 * 1 + 2.0 * 7 * (3 + 1) + 2.0 * 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (SpecPath(0, 1, 0, 0, 1.0, ()), "one copy in the second factor"),
        (SpecPath(0, 0, 1, 0, 1.0, ()), "as many in the result as in the first"),
        (SpecPath(0, 0, 0, 3, 1.0, ()), "has 2 weights from 3 on, but a row has 4"),
        (SpecPath(0, 0, 0, 0, 1.0, ()), "weight 2 of 4 is used by 0 paths"),
    ],
)
def test_a_spec_that_cannot_be(path, message):
    s = Segment
    with pytest.raises(UsageError, match=message):
        PathSpec((s(2, 0, 1),), (s(1, 0, 1), s(3, 0, 1)), (s(2, 0, 1), s(5, 0, 1)), (path,), 4)


def test_what_a_spec_cannot_say_is_declined():
    from e3nn import o3

    with pytest.raises(LegalityError, match="its weights are inside"):
        path_spec(o3.FullyConnectedTensorProduct("2x0e", "0e", "2x0e"))
    tp = o3.TensorProduct(
        "2x0e", "0e", "3x0e", [(0, 0, 0, "uvw", True)], shared_weights=False, internal_weights=False
    )
    with pytest.raises(LegalityError, match="path 0 x 0 -> 0 has mode uvw; known is uvu"):
        path_spec(tp)


def test_opcheck():
    spec = specs.spec_named("odd")
    x, y, w, lists = inputs(spec)
    key = remember(spec)
    torch.library.opcheck(ops.convolution, (x, y, w, lists, key))
    g = torch.randn(x.shape[0], spec.dims[2], dtype=torch.float64, requires_grad=True)
    for with_x in (True, False):
        torch.library.opcheck(ops.convolution_backward, (g, x, y, w, lists, key, with_x))


def test_the_gradient_that_nobody_needs_is_not_made():
    spec = specs.spec_named("odd")
    x, y, w, lists = inputs(spec)
    out = kernel_for(spec, x, "cpu")(x.detach(), y, w, lists)
    gy, gw = torch.autograd.grad(out.sum(), (y, w))
    want = torch.autograd.grad(convolve(spec, x, y, w, lists).sum(), (y, w))
    assert torch.allclose(gy, want[0])
    assert torch.allclose(gw, want[1])


def test_operands_that_do_not_fit_are_refused():
    spec = specs.spec_named("odd")
    x, y, w, lists = inputs(spec)
    key = remember(spec)
    for operands, message in (
        ((x, y.float(), w, lists), "y is torch.float32 on cpu, expected torch.float64"),
        ((x, y, w[:5], lists), r"an edge uses row \d+ of weights, but there are 5"),
        ((x, y, w[:, 1:], lists), r"w has shape \(31, \d+\), expected"),
        ((x, y, w, lists.int()), "edges are torch.int32"),
        ((x[:-1], y, w, lists), "expected int64 and"),
    ):
        with pytest.raises(UsageError, match=message):
            ops.convolution(*operands, key)
    g = torch.zeros(x.shape[0], spec.dims[2], dtype=torch.float32)
    with pytest.raises(UsageError, match=r"convolution_backward: g is torch\.float32"):
        ops.convolution_backward(g, x, y, w, lists, key, True)


def test_rows_that_no_edge_uses_have_no_gradient():
    spec = specs.spec_named("odd")
    x, y, w, lists = inputs(spec, edges=12)
    more = torch.cat([w, torch.full_like(w, 7.0)]).detach().requires_grad_()
    torch.full((500_000,), torch.nan, dtype=torch.float64)
    out = kernel_for(spec, x, "cpu")(x, y, more, lists)
    (gw,) = torch.autograd.grad(out.sum(), more)
    assert float(gw[12:].abs().max()) == 0.0


def test_other_precisions_are_promoted():
    spec = specs.spec_named("odd")
    x, y, w, lists = inputs(spec, dtype=torch.float32)
    module = Convolution(spec)
    want = module(x, y, w, lists)
    mixed = module(x, y.double(), w.bfloat16().float(), lists)
    assert mixed.dtype is torch.float64
    with torch.no_grad():
        low = module(x, y, w.bfloat16(), lists)
    assert low.dtype is torch.float32
    assert float((low - want).abs().max()) < 0.05 * float(want.detach().abs().max())


def test_forward_mode_is_refused():
    from torch.autograd import forward_ad

    spec = specs.spec_named("odd")
    x, y, w, lists = (t.detach() for t in inputs(spec))
    function = kernel_for(spec, x, "cpu")
    with pytest.raises(UsageError, match="compiled kernels have no forward-mode derivatives"):
        torch.func.jvp(lambda v: function(x, v, w, lists), (y,), (y,))
    with forward_ad.dual_level(), pytest.raises(UsageError, match="no forward-mode"):
        function(x, forward_ad.make_dual(y, y), w, lists)
    assert function(x, y, w, lists).shape == (x.shape[0], spec.dims[2])


def test_a_row_has_two_edges_at_most():
    with pytest.raises(UsageError, match="more than two edges share a row of weights"):
        pack(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), 1,
             torch.zeros(3, dtype=torch.int64))  # fmt: skip
