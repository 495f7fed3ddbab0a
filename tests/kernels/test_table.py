"""The compiled table against Horner's scheme in torch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from irprune.backends import kernel_for, remember
from irprune.errors import UsageError
from irprune.kernels.cpu import ops, table_ops
from irprune.layers.table import RadialTable
from irprune.ops.base import load_builtin_ops, op_named
from irprune.specs.table import TableSpec

load_builtin_ops()
PIECES = ((0.5, 1.25, 3), (1.25, 4.0, 5))


def values(spec, n=40, dtype=torch.float64, many=False):
    g = torch.Generator().manual_seed(0)
    shape = (spec.tables, spec.intervals, spec.degree + 1, spec.width)
    table = torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)
    r = (0.5 + 3.5 * torch.rand(n, generator=g, dtype=torch.float64)).to(dtype)
    which = torch.randint(spec.tables, (n,), generator=g) if many else None
    return r.requires_grad_(), table, which


def derivatives(function, r, table, which, order=3):
    """Values, slopes, and gradients of these by distances and weights."""
    g = torch.Generator().manual_seed(1)
    out = function(r, table, which)
    up = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype).requires_grad_()
    (first,) = torch.autograd.grad((out * up).sum(), r, create_graph=True)
    found = [out, first]
    if order > 1:
        second = torch.autograd.grad((first * first).sum(), (r, up), create_graph=True)
        found += second
    if order > 2:
        found += torch.autograd.grad((second[0] * second[0]).sum(), (r, up))
    return found


@pytest.mark.parametrize("width", [1, 7, 16, 37])
@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize("many", [False, True])
def test_equals_the_reference(width, degree, many):
    spec = TableSpec(width, degree, PIECES, 3 if many else 1)
    given = values(spec, many=many)
    before = dict(ops.CALLS)
    ours = derivatives(kernel_for(spec, given[0], "cpu"), *given)
    theirs = derivatives(spec.evaluate, *given)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-11 * float(b.detach().abs().max()))
    assert ops.CALLS["table_rows"] > before.get("table_rows", 0)
    assert ops.CALLS["table_dot"] > before.get("table_dot", 0)


def test_float32():
    spec = TableSpec(33, 5, PIECES)
    r, table, _ = values(spec, dtype=torch.float32)
    ours = derivatives(kernel_for(spec, r, "cpu"), r, table, None, order=1)
    exact = r.detach().double().requires_grad_()
    theirs = derivatives(spec.evaluate, exact, table.double(), None, order=1)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a.double(), b, rtol=0, atol=2e-5 * float(b.detach().abs().max()))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(threads):
    spec = TableSpec(20, 5, PIECES)
    given = values(spec, n=101)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours = derivatives(kernel_for(spec, given[0], "cpu"), *given, order=1)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(ours, derivatives(spec.evaluate, *given, order=1), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def test_knots_and_ends():
    """At a knot the polynomial to its right serves; at the last one, that to its left."""
    spec = TableSpec(2, 3, PIECES)
    _, table, _ = values(spec)
    r = torch.tensor([0.5, 0.75, 1.25, 1.8, 4.0, 4.0 * (1 + 5e-6), 0.5 * (1 - 5e-7)]).double()
    assert torch.allclose(
        kernel_for(spec, r, "cpu")(r, table, None), spec.evaluate(r, table), rtol=1e-12
    )
    ends = spec.evaluate(torch.tensor([4.0]).double(), table)
    assert torch.allclose(ends[0], table[0, -1].sum(0))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("bad", [0.4999, 4.001, float("nan")])
def test_distances_outside_are_refused(backend, bad):
    spec = TableSpec(2, 3, PIECES)
    _, table, _ = values(spec)
    r = torch.tensor([1.0, bad, 2.0]).double()
    with pytest.raises(UsageError, match=rf"^a distance of {bad:g} Å is outside of the tabulated"
                       r" range, 0\.5 to 4 Å; optimize without tabulate-radial"):  # fmt: skip
        kernel_for(spec, r, backend)(r, table, None)


def test_no_rows():
    spec = TableSpec(4, 3, PIECES)
    r, table, _ = values(spec, n=0)
    assert derivatives(kernel_for(spec, r, "cpu"), r, table, None, order=2)[0].shape == (0, 4)


@pytest.mark.parametrize("many", [True, False])
def test_opcheck(many):
    spec = TableSpec(5, 3, PIECES, 2 if many else 1)
    r, table, which = values(spec, n=6, many=many)
    assert (which is None) is not many
    key = remember(spec)
    torch.library.opcheck(table_ops.table_rows, (r, table, which, key, 0))
    g = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(table_ops.table_dot, (r, g, table, which, key, 1))


def test_operands_that_do_not_fit_are_refused():
    spec = TableSpec(5, 3, PIECES, 2)
    r, table, which = values(spec, n=6, many=True)
    key = remember(spec)
    with pytest.raises(UsageError, match=r"^table_rows: table is torch\.float32 on cpu, expected"):
        table_ops.table_rows(r, table.float(), which, key, 0)
    with pytest.raises(
        UsageError, match=r"^table_rows: the numbers of the tables are torch\.int32"
    ):
        table_ops.table_rows(r, table, which.int(), key, 0)
    with pytest.raises(
        UsageError, match=r"^table_rows: tables 0 to 2 are asked for, but there are 2"
    ):
        table_ops.table_rows(r, table, torch.tensor([0, 1, 2, 0, 0, 0]), key, 0)
    with pytest.raises(UsageError, match="cannot be trained; tabulate it afterwards"):
        table_ops.table_rows(r, table.requires_grad_(), which, key, 0).sum().backward()


def test_text_and_json():
    spec = TableSpec(4, 5, PIECES, 6)
    assert TableSpec.from_json(spec.to_json()) == spec
    assert str(spec) == (
        "4 functions of the distance from 0.5 to 4 Å, 8 polynomials of degree 5 each,"
        f" 6 pairs of elements, {spec.key}"
    )


def test_the_layer_chooses_by_elements():
    spec = TableSpec(3, 3, PIECES, 2)
    layer = RadialTable(spec, elements=2).double()
    r, table, _ = values(spec, n=3)
    layer.coefficients.copy_(table)
    layer.kinds.copy_(torch.tensor([[0, 1], [1, 0]]))
    species, edges = torch.tensor([0, 1, 1]), torch.tensor([[0, 0, 1], [0, 1, 2]])
    want = spec.evaluate(r, table, torch.tensor([0, 1, 0]))
    assert torch.allclose(layer(r.unsqueeze(1), species, edges), want, rtol=1e-12)
    site = SimpleNamespace(module=layer)
    plain = op_named("radial-table").reference(site, (r.unsqueeze(1), species, edges))
    assert torch.allclose(plain, want, rtol=1e-12)
