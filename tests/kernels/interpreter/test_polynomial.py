"""The Triton polynomial, in Triton's interpreter, against term by term evaluation in float64."""

from __future__ import annotations

import re

import pytest
import torch

from irprune.backends import kernel_for, remember
from irprune.errors import UsageError
from irprune.kernels.triton import launch
from irprune.kernels.triton import polynomial_ops as ops
from irprune.kernels.triton.config import configs, default, pin
from irprune.layers.polynomial import ElementPolynomial
from irprune.specs.poly import PolySpec
from tests.kernels import specs
from tests.kernels.operands import assert_derivatives_equal, derivatives


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that nobody wrote is not a number: what a kernel leaves out shows."""
    plain = torch.Tensor.new_empty

    def new_empty(self, *shape, **options):
        made = plain(self, *shape, **options)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", new_empty)


def values(spec, n=4, rows=3, dtype=torch.float64):
    """x, w and which row of w each node uses; not every row is used."""
    g = torch.Generator().manual_seed(0)
    shapes = ((n, spec.dims[0] * spec.channels), (rows, spec.n_paths, spec.channels))
    x, w = (
        torch.randn(s, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes
    )
    return x, w, torch.randint(0, max(rows - 1, 1), (n,), generator=g)


def assert_equal(spec, given, tolerance):
    made = derivatives(kernel_for(spec, given[0], "triton"), *given)
    exact = [t.detach().double().requires_grad_() for t in given[:2]]
    wanted = derivatives(spec.evaluate, *exact, *given[2:])
    assert_derivatives_equal(made, wanted, tolerance)


@pytest.mark.parametrize(("channels", "degree"), [(5, 3), (19, 2), (16, 1), (1, 4)])
def test_equals_the_reference(channels, degree):
    """Ragged blocks, a full one, two blocks; correlation orders up to four."""
    spec = specs.polynomial(channels, degree)
    launch.LAUNCHES.clear()
    assert_equal(spec, values(spec), 1e-13)
    names = ("values", "first_xw", "second_xw", "second_w")
    assert set(launch.LAUNCHES) == {f"{name} rows" for name in names}
    assert set(launch.LAUNCHES.values()) == {1}


def test_every_configuration():
    spec = specs.polynomial(19, 2)
    assert len(configs(spec)) == 2
    for config in configs(spec):
        pin(spec, torch.float64, config)
        assert_equal(spec, values(spec), 1e-13)
    pin(spec, torch.float64, default(spec))


def test_float32():
    spec = specs.polynomial(5, 2)
    assert_equal(spec, values(spec, dtype=torch.float32), 2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_summed_in_float32(dtype):
    """A large term and many small ones: added up in the dtype itself, the small ones are lost.

    The interpreter cuts float32 off to bfloat16 instead of rounding it, hence a whole unit.
    """
    eps = torch.finfo(dtype).eps
    terms = tuple((0, p, (0,), 2 / eps if p == 0 else 0.5) for p in range(30))
    spec = PolySpec(3, ((0, 1),), ((0, 1),), 30, terms)
    x, w, which = values(spec, n=6, rows=2, dtype=dtype)
    x, w = torch.ones_like(x).requires_grad_(), torch.ones_like(w).requires_grad_()
    exact = [t.detach().double().requires_grad_() for t in (x, w)]
    made, wanted = kernel_for(spec, x, "triton")(x, w, which), spec.evaluate(*exact, which)
    found = (made, *torch.autograd.grad(made.sum(), (x, w)))
    for a, b in zip(found, (wanted, *torch.autograd.grad(wanted.sum(), exact)), strict=True):
        assert a.dtype is dtype
        assert bool(((a.double() - b).abs() <= eps * b.abs()).all())


def test_each_node_may_have_weights_of_its_own():
    spec = specs.polynomial(5, 2)
    x, w, _ = values(spec, n=3, rows=3)
    assert_equal(spec, (x, w), 1e-13)


@pytest.mark.parametrize("n", [0, 1])
def test_few_nodes(n):
    spec = specs.polynomial(5, 2)
    x, w, which = values(spec, n=n)
    out = kernel_for(spec, x, "triton")(x, w, which)
    assert out.shape == (n, spec.dims[1] * 5)
    gx, gw = torch.autograd.grad(out.sum(), (x, w))
    assert gx.shape == x.shape
    assert float(gw[2:].abs().max()) == 0.0


def test_what_no_term_touches_is_zero():
    spec = PolySpec(3, ((0, 1), (1, -1)), ((0, 1), (1, -1)), 2, ((0, 0, (0, 1), 2.0),))
    assert_equal(spec, values(spec), 1e-13)
    constant = PolySpec(3, ((0, 1),), ((0, 1),), 2, ((0, 0, (), 2.0), (0, 1, (0,), 1.0)))
    assert_equal(constant, values(constant), 1e-13)
    nothing = PolySpec(3, ((0, 1),), ((0, 1),), 1, ())
    x, w, which = values(nothing)
    assert float(kernel_for(nothing, x, "triton")(x, w, which).detach().abs().max()) == 0.0


def test_gradients_of_weights_are_left_out_where_nobody_trains():
    spec = specs.polynomial(5, 2)
    x, w, which = values(spec)
    launch.LAUNCHES.clear()
    assert_equal_by_x(spec, x, w.detach(), which)
    assert set(launch.LAUNCHES) == {"values rows", "first_x rows", "second_x rows"}


def assert_equal_by_x(spec, x, w, which):
    made = derivatives(lambda a: kernel_for(spec, x, "triton")(a, w, which), x)
    wanted = derivatives(lambda a: spec.evaluate(a, w, which), x)
    assert_derivatives_equal(made, wanted, 1e-13)


def test_gradients_and_operands_that_are_not_contiguous():
    spec = specs.polynomial(5, 2)
    x, w, which = values(spec)
    wanted = torch.autograd.grad(spec.evaluate(x, w, which).sum(), (x, w))
    found = torch.autograd.grad(kernel_for(spec, x, "triton")(x, w, which).sum(), (x, w))
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-13)
    strange = (x.detach().t().contiguous().t(), w.detach().transpose(0, 2).contiguous())
    strange = (strange[0], strange[1].transpose(0, 2), which.repeat_interleave(2)[::2])
    assert not any(t.is_contiguous() for t in strange)
    made = kernel_for(spec, x, "triton")(*strange)
    assert torch.allclose(made, spec.evaluate(x, w, which), rtol=0, atol=1e-13)


def test_gradcheck_and_gradgradcheck():
    spec = specs.polynomial(1, 2)
    x, w, which = values(spec, n=1, rows=2)
    function = kernel_for(spec, x, "triton")
    torch.autograd.gradcheck(function, (x, w, which), fast_mode=True)
    torch.autograd.gradgradcheck(function, (x, w, which), fast_mode=True)


def test_opcheck():
    spec = specs.polynomial(2, 1)
    x, w, which = values(spec, n=2)
    names = (remember(spec), str(default(spec)))
    g = torch.randn(2, 2 * spec.dims[1], dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(ops.polynomial, (x, w, which, *names))
    for with_w in (True, False):
        torch.library.opcheck(ops.polynomial_backward, (g, x, w, which, *names, with_w))


def test_third_derivatives_are_refused():
    spec = specs.polynomial(2, 1)
    x, w, which = values(spec)
    out = kernel_for(spec, x, "triton")(x, w, which)
    (a,) = torch.autograd.grad((out**2).sum(), x, create_graph=True)
    (b,) = torch.autograd.grad((a**2).sum(), x, create_graph=True)
    with pytest.raises(UsageError, match="third derivatives of a Triton polynomial are not avail"):
        torch.autograd.grad((b**2).sum(), x)


def test_operands_that_do_not_fit_are_refused():
    spec = specs.polynomial(2, 2)
    x, w, which = (t.detach() for t in values(spec))
    names = (remember(spec), str(default(spec)))
    for operands, message in (
        ((x, w.float(), which), "triton_polynomial: w is torch.float32 on cpu, expected"),
        ((x, w[:, 1:], which), "w has shape (3, 3, 2), expected (3, 4, 2)"),
        ((x, w, which + 2), "nodes use rows 2 to 3 of weights, but there are 3"),
        ((x, w, which.int()), "rows of weights are torch.int32 of shape (4,) on cpu, expected"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            ops.polynomial(*operands, *names)
    with pytest.raises(UsageError, match="triton_polynomial_backward: g has shape"):
        ops.polynomial_backward(x[:, 1:], x, w, which, *names, True)


def test_the_layer_reads_weights_where_they_lie():
    """ElementPolynomial gives its weights by element and the elements of the atoms."""
    spec = specs.polynomial(3, 2)
    x, w, which = values(spec)
    layer = ElementPolynomial(spec, 3, backend="triton").double()
    with torch.no_grad():
        layer.weight.copy_(w)
    launch.LAUNCHES.clear()
    assert torch.allclose(layer(x, which), spec.evaluate(x, w, which), rtol=0, atol=1e-13)
    assert launch.LAUNCHES["values rows"] == 1


def test_equivariance():
    """The l = 1 square and its scalar: turned inputs give turned results."""
    from e3nn import o3

    square = [(0, 0, (1 + i, 1 + i), 1.0) for i in range(3)]
    scaled = [(1 + i, 1, (0, 1 + i), 0.7) for i in range(3)]
    spec = PolySpec(5, ((0, 1), (1, -1)), ((0, 1), (1, -1)), 2, tuple(square + scaled))
    x, w, which = (t.detach() for t in values(spec))
    matrix = -o3.rand_matrix(dtype=torch.float64)
    turn = o3.Irreps("5x0e+5x1o").D_from_matrix(matrix).double()
    function = kernel_for(spec, x, "triton")
    made, wanted = function(x @ turn.T, w, which), function(x, w, which) @ turn.T
    assert torch.allclose(made, wanted, rtol=0, atol=1e-6)
