"""The compiled polynomial against term by term evaluation, and against MACE's own contraction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3

from irprune.backends import kernel_for, remember
from irprune.errors import ExactnessError, UsageError
from irprune.families.mace import contraction, symmetric
from irprune.families.mace.library import import_mace
from irprune.kernels.cpu import ops
from irprune.specs.poly import PolySpec
from tests.kernels import specs
from tests.kernels.operands import derivatives


def values(spec, n=7, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    shapes = ((n, spec.dims[0] * spec.channels), (n, spec.n_paths, spec.channels))
    return [
        torch.randn(s, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes
    ]


@pytest.mark.parametrize("channels", [1, 5, 8, 19])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_reference(channels, dtype):
    spec = specs.polynomial(channels)
    given = values(spec, dtype=dtype)
    before = dict(ops.CALLS)
    ours = derivatives(kernel_for(spec, given[0], "cpu"), *given)
    theirs = derivatives(spec.evaluate, *given)
    limit = 1e-13 if dtype is torch.float64 else 2e-5
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).detach().abs().max()) <= limit * max(
            1.0, float(b.detach().abs().max())
        )
    for name in ("polynomial", "polynomial_backward", "polynomial_second"):
        assert ops.CALLS[name] == before.get(name, 0) + 1


def test_a_path_and_a_component_that_no_term_touches():
    """What a program does not compute is zero, not what lay in memory."""
    terms = ((0, 0, (0, 1), 2.0),)
    spec = PolySpec(3, ((0, 1), (1, -1)), ((0, 1), (1, -1)), 2, terms)
    given = values(spec)
    torch.full((200_000,), torch.nan, dtype=torch.float64)
    ours = derivatives(kernel_for(spec, given[0], "cpu"), *given)
    theirs = derivatives(spec.evaluate, *given)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-13, atol=1e-13)


def test_no_atoms():
    spec = specs.polynomial()
    x, w = values(spec, n=0)
    for made in (kernel_for(spec, x, "cpu")(x, w), spec.evaluate(x, w)):
        assert made.shape == (0, spec.dims[1] * spec.channels)


def test_opcheck():
    spec = specs.polynomial()
    x, w = values(spec)
    key = remember(spec)
    torch.library.opcheck(ops.polynomial, (x, w, key))
    g = torch.randn(x.shape[0], spec.dims[1] * spec.channels, dtype=torch.float64)
    torch.library.opcheck(ops.polynomial_backward, (g.requires_grad_(), x, w, key))


def test_third_derivatives_are_refused():
    spec = specs.polynomial()
    x, w = values(spec)
    (first,) = torch.autograd.grad(kernel_for(spec, x, "cpu")(x, w).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    with pytest.raises(UsageError, match=r"^third derivatives of a compiled polynomial are not"):
        torch.autograd.grad(second.sum(), x)


def test_text_and_json():
    spec = PolySpec(4, ((0, 1), (1, -1)), ((0, 1),), 2, ((0, 0, (0,), 1.0), (0, 1, (1, 1), 0.5)))
    assert str(spec) == (
        f"4x0e+4x1o -> 4x0e, {spec.key}\n  2 paths, 2 monomials of degree up to 2, 2 terms"
    )
    assert PolySpec.from_json(spec.to_json()) == spec


def made(inputs, outputs, correlation, dtype=torch.float64):
    library = import_mace("mace.modules.symmetric_contraction")
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.manual_seed(0)
    try:
        return library.SymmetricContraction(
            irreps_in=o3.Irreps(inputs),
            irreps_out=o3.Irreps(outputs),
            correlation=correlation,
            num_elements=3,
        )
    finally:
        torch.set_default_dtype(before)


CASES = [
    ("4x0e+4x1o+4x2e+4x3o", "4x0e", 3),
    ("3x0e+3x1o+3x2e", "3x0e+3x1o+3x2e", 2),
    ("2x0e+2x1o", "2x0e+2x1o", 3),
    ("3x0e+3x1o", "3x0e", 1),
]


@pytest.mark.parametrize(("inputs", "outputs", "correlation"), CASES)
def test_a_contraction_is_its_polynomial(inputs, outputs, correlation):
    module = made(inputs, outputs, correlation)
    channels = o3.Irreps(inputs)[0].mul
    parts = contraction.read(module)
    orders = tuple((ir.l, ir.p) for _, ir in o3.Irreps(inputs))
    x = torch.randn(6, o3.Irreps(inputs).dim, dtype=torch.float64)
    y = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 1, 2, 2, 1, 0])]
    spec, weight = symmetric.polynomial(parts, orders)
    rows = spec.columns(x).permute(1, 2, 0)
    assert rows.shape == (6, channels, spec.dims[0])
    want = module(rows.contiguous(), y)
    assert torch.allclose(spec.evaluate(x, weight[y.argmax(1)]), want, rtol=1e-10, atol=1e-11)
    reduced = [symmetric.reduce(t, "here") for t in parts]
    small, fewer = symmetric.polynomial(reduced, orders)
    got = kernel_for(small, x, "cpu")(x, fewer[y.argmax(1)])
    assert torch.allclose(got, want, rtol=1e-10, atol=1e-11)
    assert small.n_paths <= spec.n_paths


def test_the_paths_of_mace_mp():
    """ν = 3 into scalars: 23 paths span 8 polynomials; 28 paths are 13 in all."""
    parts = contraction.read(made("2x0e+2x1o+2x2e+2x3o", "2x0e", 3))
    assert [int(parts[0].u[nu].shape[-1]) for nu in (1, 2, 3)] == [1, 4, 23]
    small = symmetric.reduce(parts[0], "here")
    assert [int(small.u[nu].shape[-1]) for nu in (1, 2, 3)] == [1, 4, 8]
    spec, _ = symmetric.polynomial([small], ((0, 1), (1, -1), (2, 1), (3, -1)))
    assert spec.n_paths == 13
    assert len({t[2] for t in spec.terms}) == 94


def test_the_basis_spans_what_it_came_from():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(12, 4)) @ rng.normal(size=(4, 9))
    columns, factors = symmetric.basis(matrix)
    assert columns.shape == (12, 4)
    assert np.abs(columns @ factors - matrix).max() < 1e-12
    assert (np.isclose(columns, 1).sum(axis=0) >= 1).all()


def test_a_basis_rounded_to_float32_is_not_reduced_silently():
    parts = contraction.read(made("2x0e+2x1o+2x2e+2x3o", "2x0e", 3, torch.float32))
    wide = contraction.Terms(0, 1, {n: u.double() for n, u in parts[0].u.items()}, parts[0].w)
    with pytest.raises(ExactnessError, match=r"^here: correlation order 3, output 0e: its 23 paths"
                       r" span 8 polynomials only up to \d\.\de-\d\d \(allowed 1e-11\)"):  # fmt: skip
        symmetric.reduce(wide, "here")
    assert int(symmetric.reduce(parts[0], "here").u[3].shape[-1]) == 8


def test_coefficients_and_tensor_are_inverse():
    u = contraction.symmetrise(torch.randn(3, 4, 4, 4, 2, dtype=torch.float64))
    table = symmetric.coefficients(u)
    back = symmetric.tensor_of(table, 3, 4, 3)
    assert np.abs(back - u.numpy()).max() < 1e-14


def test_equal_components_add_their_gradients():
    terms = ((0, 0, (0, 1), 1.0), (1, 0, (0, 1), 1.0))
    spec = PolySpec(5, ((0, 1), (0, 1)), ((0, 1), (0, 1)), 1, terms)
    given = values(spec)
    ours = derivatives(kernel_for(spec, given[0], "cpu"), *given)
    theirs = derivatives(spec.evaluate, *given)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-13, atol=1e-13)


def test_operands_that_do_not_fit_are_refused():
    spec = specs.polynomial()
    x, w = values(spec)
    with pytest.raises(UsageError, match=r"polynomial: w is torch\.float32 on cpu, expected"):
        ops.polynomial(x, w.float(), remember(spec))
    with pytest.raises(
        UsageError, match=r"polynomial: w has shape \(6, 4, 5\), expected \(7, 4, 5\)"
    ):
        ops.polynomial(x, w[1:], remember(spec))
