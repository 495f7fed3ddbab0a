"""The Triton convolution, in Triton's interpreter, against the reference in float64."""

from __future__ import annotations

import re

import pytest
import torch

from irprune.backends import choose, convolve, kernel_for, remember
from irprune.edges import pack
from irprune.errors import UsageError
from irprune.irreps import Segment
from irprune.kernels.triton import launch, ops
from irprune.kernels.triton.config import Config, configs, default, pin
from irprune.specs.path import PathSpec, SpecPath
from tests.kernels import specs
from tests.kernels.operands import assert_derivatives_equal, derivatives, inputs

pytestmark = pytest.mark.usefixtures("unscripted")

CSR = Config(16, 1, 1, "csr")
ATOMIC = Config(16, 1, 1, "atomic")
VARIANTS = [CSR, ATOMIC]
NAMES = ["scalars", "odd", "order 3", "shared"]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that nobody wrote is not a number: what a kernel leaves out shows."""
    plain = torch.Tensor.new_empty

    def new_empty(self, *shape, **options):
        made = plain(self, *shape, **options)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", new_empty)


def ours(spec, config):
    """The backend's function in one configuration."""

    def function(x, y, w, edges):
        pin(spec, x.dtype, config)
        return kernel_for(spec, x, "triton")(x, y, w, edges)

    return function


def assert_equal(spec, config, given, tolerance):
    made = derivatives(ours(spec, config), *given)
    wanted = derivatives(lambda *a: convolve(spec, *a), *given)
    assert_derivatives_equal(made, wanted, tolerance)


@pytest.mark.parametrize(
    ("name", "config"),
    [*((name, CSR) for name in NAMES), ("odd", ATOMIC), ("shared", ATOMIC)],
    ids=str,
)
def test_equals_the_reference(name, config):
    spec = specs.spec_named(name)
    launch.LAUNCHES.clear()
    assert_equal(spec, config, inputs(spec, nodes=3, edges=4), 1e-13)
    counted = {key.split("_")[0].split()[0] for key in launch.LAUNCHES}
    assert counted == {"forward", "features", "edges"}
    assert all(key.endswith(f" {config.variant}") for key in launch.LAUNCHES)


def test_more_channels_than_a_block():
    """Two blocks, the last one ragged, and a block that is full."""
    spec = specs.path_spec(specs.product("19x0e+16x1o", "0e+1o", 1))
    for config in VARIANTS:
        assert_equal(spec, config, inputs(spec, nodes=2, edges=2), 1e-13)


def test_float32():
    spec = specs.spec_named("scalars")
    assert_equal(spec, CSR, inputs(spec, nodes=4, edges=7, dtype=torch.float32), 2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_low_precision_is_summed_in_float32(config, dtype):
    """A large message and many small ones: added up in the dtype itself, the small ones are lost.

    The interpreter cuts float32 off to bfloat16 instead of rounding it, hence a whole unit.
    """
    spec, eps = tiny(), torch.finfo(dtype).eps
    x, y, w, lists = inputs(spec, nodes=1, edges=30, rows=15, dtype=dtype)
    x, y, w = torch.ones_like(x), torch.full_like(y, 0.5), torch.ones_like(w)
    y[0] = 2 / eps
    given = [t.detach().requires_grad_() for t in (x, y, w)]
    exact = [t.detach().double().requires_grad_() for t in (x, y, w)]
    made, wanted = ours(spec, config)(*given, lists), convolve(spec, *exact, lists)
    found = (made, *torch.autograd.grad(made, given, torch.ones_like(made)))
    for a, b in zip(found, (wanted, *torch.autograd.grad(wanted.sum(), exact)), strict=True):
        assert a.dtype is dtype
        assert bool(((a.double() - b).abs() <= eps * b.abs()).all())


@pytest.mark.parametrize("config", VARIANTS, ids=str)
@pytest.mark.parametrize(("nodes", "edges"), [(5, 1), (1, 6), (6, 3), (4, 0)])
def test_sparse_and_dense_graphs(nodes, edges, config):
    """One edge, one atom, atoms without edges, no edges at all."""
    spec = specs.spec_named("odd")
    x, y, w, lists = inputs(spec, nodes, edges, seed=3)
    made = ours(spec, config)(x, y, w, lists)
    wanted = convolve(spec, x, y, w, lists)
    assert made.shape == wanted.shape
    assert torch.allclose(made, wanted, rtol=0, atol=1e-13)
    up = torch.randn(made.shape, dtype=made.dtype)
    for a, b in zip(
        torch.autograd.grad(made, (x, y, w), up),
        torch.autograd.grad(wanted, (x, y, w), up),
        strict=True,
    ):
        assert a.shape == b.shape
        assert torch.allclose(a, b, rtol=0, atol=1e-13)


def test_two_edges_share_a_row_of_weights():
    spec = specs.spec_named("odd")
    assert_equal(spec, CSR, inputs(spec, nodes=3, edges=4, rows=2), 1e-13)


def test_as_many_rows_as_edges_but_not_one_each():
    """Rows 0 and 1 are shared, rows 2 and 3 belong to nobody: their gradient is zero."""
    spec = tiny()
    x, y, w, _ = inputs(spec, nodes=3, edges=4)
    sender, receiver = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 0, 0, 2])
    lists = pack(sender, receiver, 3, torch.tensor([0, 0, 1, 1]))
    assert_equal(spec, CSR, (x, y, w, lists), 1e-13)
    (gw,) = torch.autograd.grad(ours(spec, CSR)(x, y, w, lists).sum(), w)
    assert float(gw[2:].abs().max()) == 0.0
    assert float(gw[:2].abs().min()) > 0.0


def test_gradients_and_operands_that_are_not_contiguous():
    """The gradient of a sum has stride 0; operands may be transposed or cut out."""
    spec = specs.spec_named("odd")
    x, y, w, lists = inputs(spec, nodes=3, edges=4)
    wanted = torch.autograd.grad(convolve(spec, x, y, w, lists).sum(), (x, y, w))
    found = torch.autograd.grad(ours(spec, CSR)(x, y, w, lists).sum(), (x, y, w))
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-13)
    strange = [t.detach().t().contiguous().t() for t in (x, y, w)]
    assert not any(t.is_contiguous() for t in strange)
    made = ours(spec, CSR)(*strange, lists)
    assert torch.allclose(made, convolve(spec, x, y, w, lists), rtol=0, atol=1e-13)


def tiny():
    """Two paths of unlike shape with odd channels: what finite differences can afford."""
    coupling = ((0, 0, 0, 0.5), (0, 1, 1, -1.5), (0, 2, 2, 0.7))
    one = Segment(1, 0, 1), Segment(1, 1, -1)
    paths = (
        SpecPath(0, 0, 0, 0, 1.25, ((0, 0, 0, 1.0),)),
        SpecPath(0, 1, 1, 3, 0.75, coupling),
    )
    return PathSpec((Segment(3, 0, 1),), one, (Segment(3, 0, 1), Segment(3, 1, -1)), paths, 6)


def test_gradcheck_and_gradgradcheck():
    spec = tiny()
    given = inputs(spec, nodes=2, edges=2)
    torch.autograd.gradcheck(ours(spec, ATOMIC), given, fast_mode=True)
    torch.autograd.gradcheck(ours(spec, CSR), given, fast_mode=True)
    torch.autograd.gradgradcheck(ours(spec, CSR), given, fast_mode=True)


def test_third_derivatives():
    """All derivatives are the same kernels: training on forces with second-order methods may ask."""
    spec = tiny()
    x, y, w, lists = inputs(spec, nodes=2, edges=3)

    def third(function):
        out = function(x, y, w, lists)
        (a,) = torch.autograd.grad((out**3).sum(), y, create_graph=True)
        (b,) = torch.autograd.grad((a**2).sum(), x, create_graph=True)
        return torch.autograd.grad((b**2).sum(), (x, y, w))

    wanted = third(lambda *a: convolve(spec, *a))
    for a, b in zip(third(ours(spec, CSR)), wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-11)


def test_opcheck():
    spec = tiny()
    x, y, w, lists = inputs(spec, nodes=2, edges=2)
    key, text = remember(spec), str(CSR)
    g = torch.randn(2, spec.dims[2], dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(ops.convolution, (x, y, w, lists, key, text))
    torch.library.opcheck(ops.features, (g, y, w, lists, key, text))
    torch.library.opcheck(ops.edge_gradients, (g, x, y, w, lists, key, text))


def test_the_gradient_that_nobody_needs_is_not_made():
    spec = specs.spec_named("odd")
    x, y, w, lists = inputs(spec, nodes=3, edges=4)
    launch.LAUNCHES.clear()
    out = ours(spec, CSR)(x.detach(), y, w, lists)
    torch.autograd.grad(out.sum(), (y, w))
    assert set(launch.LAUNCHES) == {"forward_0 csr", "forward_1 csr", "edges csr"}
    launch.LAUNCHES.clear()
    out = ours(spec, CSR)(x, y.detach(), w.detach(), lists)
    torch.autograd.grad(out.sum(), x)
    assert "edges csr" not in launch.LAUNCHES


def test_equivariance():
    """Features and harmonics turned, and the result turns; an inversion too."""
    from e3nn import o3

    first, second = o3.Irreps("5x0e+3x1o"), o3.Irreps("0e+1o+2e")
    spec = specs.spec_named("odd")
    result = o3.Irreps("+".join(map(str, spec.out)))
    x, y, w, lists = (t.detach() for t in inputs(spec, nodes=3, edges=5))
    rotation = o3.rand_matrix(dtype=torch.float64)
    for matrix in (rotation, -rotation):
        da, db, dc = (r.D_from_matrix(matrix).double() for r in (first, second, result))
        turned = ours(spec, CSR)(x @ da.T, y @ db.T, w, lists)
        assert torch.allclose(turned, ours(spec, CSR)(x, y, w, lists) @ dc.T, rtol=0, atol=1e-5)


def test_segments_that_no_path_touches_are_zero():
    kept = tiny()
    wider = (*kept.out, Segment(2, 2, 1))
    spec = PathSpec((*kept.in1, Segment(4, 1, 1)), kept.in2, wider, kept.paths, 6)
    for config in VARIANTS:
        assert_equal(spec, config, inputs(spec, nodes=3, edges=4), 1e-13)


def test_a_spec_without_paths_is_zero():
    kept = tiny()
    spec = PathSpec(kept.in1, kept.in2, kept.out, (), 0)
    x, y, w, lists = inputs(spec, nodes=3, edges=4)
    assert float(ours(spec, default(spec))(x, y, w, lists).detach().abs().max()) == 0.0


def test_operands_that_do_not_fit_are_refused():
    spec = specs.spec_named("odd")
    x, y, w, lists = inputs(spec, nodes=3, edges=4)
    key, text = remember(spec), str(CSR)
    for operands, message in (
        ((x, y.float(), w, lists), "triton_convolution: y is torch.float32 on cpu, expected"),
        ((x, y, w[:2], lists), "an edge uses row 3 of weights, but there are 2"),
        ((x, y, w[:, 1:], lists), "w has shape (4, "),
        ((x[:-1], y, w, lists), "expected int64 and"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            ops.convolution(*operands, key, text)
    g = torch.zeros(3, 2, dtype=torch.float64)
    with pytest.raises(UsageError, match=re.escape("triton_convolution_edges: g has shape (3, 2)")):
        ops.edge_gradients(g, x, y, w, lists, key, text)
    with pytest.raises(UsageError, match="triton_convolution_features: g has shape"):
        ops.features(g, y, w, lists, key, text)
    with pytest.raises(UsageError, match="no forward-mode derivatives"):
        torch.func.jvp(lambda v: ours(spec, CSR)(x.detach(), v, w.detach(), lists), (y,), (y,))


def test_the_interpreter_serves_where_it_is_asked_for():
    spec, cpu = specs.spec_named("odd"), torch.device("cpu")
    assert str(choose(spec, cpu, torch.float64, "triton")) == "triton"
    assert choose(spec, cpu, torch.float64).backend != "triton"
    assert all(c.block == 16 for c in configs(spec))
