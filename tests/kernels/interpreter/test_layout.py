"""Rows in ir_mul: the Triton kernels read and write them where they lie."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from irprune import api
from irprune.backends import convolve, kernel_for
from irprune.irreps import Layout
from irprune.kernelplan import kernel_nodes
from irprune.kernels.triton import backend, launch
from irprune.kernels.triton.config import Config, pin
from irprune.specs.path import PathSpec
from tests.kernels import specs
from tests.kernels.operands import assert_derivatives_equal, derivatives, inputs
from tests.passes import toy

pytestmark = pytest.mark.usefixtures("unscripted")

SPECS = {
    "shared": lambda: specs.spec_named("shared"),
    "two": lambda: specs.path_spec(specs.product("3x0e+2x1o", "0e+1o", 1)),
}
MOVES = {"aten::cat", "aten::clone", "aten::transpose", "aten::copy_", "aten::contiguous"}


class Names(TorchDispatchMode):
    """Names of the torch operators that run."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found.add(func._schema.name)
        return func(*args, **(kwargs or {}))


def ran(function, *operands):
    """Operators of a call and of its gradients, all with rows that are contiguous."""
    leaves = [t for t in operands if t.requires_grad]
    with Names() as names:
        out = function(*operands)
        torch.autograd.grad(out, leaves, torch.ones_like(out))
    return names.found


@pytest.mark.parametrize(("name", "variant"), [("shared", "csr"), ("two", "atomic")])
def test_a_convolution(name, variant):
    spec = SPECS[name]().in_layout(Layout.IR_MUL)
    given = inputs(spec, nodes=2, edges=3)
    pin(spec, torch.float64, Config(16, 1, 1, variant))
    launch.LAUNCHES.clear()
    made = derivatives(kernel_for(spec, given[0], "triton"), *given)
    assert_derivatives_equal(made, derivatives(lambda *a: convolve(spec, *a), *given), 1e-13)
    assert {key.split()[1] for key in launch.LAUNCHES} == {variant}


def test_a_convolution_moves_no_rows():
    spec = SPECS["two"]()
    moved = spec.in_layout(Layout.IR_MUL)
    given = inputs(spec, nodes=2, edges=3)
    assert not MOVES & ran(kernel_for(moved, given[0], "triton"), *given)
    assert ran(kernel_for(spec, given[0], "triton"), *given) >= {"aten::cat", "aten::transpose"}


def polynomial_operands(spec):
    g = torch.Generator().manual_seed(0)
    shapes = ((4, spec.dims[0] * spec.channels), (3, spec.n_paths, spec.channels))
    x, w = (torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes)
    return x, w, torch.tensor([0, 2, 1, 1])


def test_a_polynomial():
    spec = specs.polynomial(3, 2).in_layout(Layout.IR_MUL)
    given = polynomial_operands(spec)
    made = derivatives(kernel_for(spec, given[0], "triton"), *given)
    assert_derivatives_equal(made, derivatives(spec.evaluate, *given), 1e-13)


def test_a_polynomial_moves_no_rows():
    spec = specs.polynomial(3, 2)
    moved = spec.in_layout(Layout.IR_MUL)
    given = polynomial_operands(spec)
    assert not MOVES & ran(kernel_for(moved, given[0], "triton"), *given)
    assert "aten::transpose" in ran(kernel_for(spec, given[0], "triton"), *given)


def test_a_graph_converts_at_its_borders_only(monkeypatch):
    """The same launches; conversions are nodes of the graph, and none runs around a kernel."""
    graph = api.run("fold-onehot,fuse-conv,fuse-linear,cse", toy.graph())
    moved, report = api.run_reported("lay-out", graph)
    assert report.results["lay-out"]["borders"] == {"gate": ["square"]}
    counted = []
    for name in ("to_ir_mul", "to_mul_ir"):
        plain = getattr(backend, name)
        monkeypatch.setattr(
            backend,
            name,
            lambda x, segments, plain=plain: (counted.append(1), plain(x, segments))[1],
        )
    found = {}
    for layout, g in (("mul_ir", graph), ("ir_mul", moved)):
        gm = g.module(torch.float64)
        for _, module in kernel_nodes(gm):
            module.backend = "triton" if isinstance(module.spec, PathSpec) else "reference"
        counted.clear()
        launch.LAUNCHES.clear()
        found[layout] = (gm(*g.example(seed=2)), dict(launch.LAUNCHES), len(counted))
    assert torch.allclose(found["ir_mul"][0], found["mul_ir"][0], rtol=1e-12, atol=1e-12)
    assert found["ir_mul"][1] == found["mul_ir"][1] == {"forward_0 csr": 1}
    assert (found["ir_mul"][2], found["mul_ir"][2]) == (0, 2)
