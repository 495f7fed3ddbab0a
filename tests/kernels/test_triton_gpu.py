"""The Triton kernels on a GPU: every configuration, derivatives, graphs of CUDA, torch.compile.

python -m pytest -m gpu tests/kernels/test_triton_gpu.py
"""

from __future__ import annotations

import pytest
import torch

from irprune.backends import choose, convolve, kernel_for
from irprune.kernels.triton import launch
from irprune.kernels.triton.config import configs, default, own_pins, pin
from tests.kernels import specs
from tests.kernels.operands import assert_derivatives_equal, derivatives, inputs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("unscripted"),
]


def on_device(given):
    return tuple(t.detach().cuda().requires_grad_(t.is_floating_point()) for t in given)


def assert_equal(spec, given, tolerance):
    made = derivatives(kernel_for(spec, given[0], "triton"), *given)
    exact = tuple(
        t.detach().double().requires_grad_() if t.is_floating_point() else t for t in given
    )
    wanted = derivatives(lambda *a: convolve(spec, *a), *exact)
    assert_derivatives_equal(made, wanted, tolerance)


@pytest.mark.parametrize("name", ["scalars", "odd", "wide", "order 3", "shared"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_configuration_equals_the_reference(name, dtype):
    spec = specs.spec_named(name)
    given = on_device(inputs(spec, nodes=40, edges=900, rows=450, dtype=dtype))
    limit = 1e-12 if dtype is torch.float64 else 1e-4
    for config in configs(spec):
        pin(spec, dtype, config)
        launch.LAUNCHES.clear()
        assert_equal(spec, given, limit)
        assert {key.split()[1] for key in launch.LAUNCHES} == {config.variant}


@pytest.mark.parametrize("channels", [5, 64, 129])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_configuration_of_a_polynomial_equals_the_reference(channels, dtype):
    spec = specs.polynomial(channels)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(70, 4 * channels, generator=g, dtype=dtype)
    w = torch.randn(3, 4, channels, generator=g, dtype=dtype)
    x, w, which = on_device((x, w, torch.randint(0, 3, (70,), generator=g)))
    exact = [t.detach().double().requires_grad_() for t in (x, w)]
    wanted = derivatives(spec.evaluate, *exact, which)
    for config in configs(spec):
        pin(spec, dtype, config)
        made = derivatives(kernel_for(spec, x, "triton"), x, w, which)
        assert_derivatives_equal(made, wanted, 1e-12 if dtype is torch.float64 else 1e-4)


def test_auto_takes_triton():
    for spec in (specs.spec_named("wide"), specs.polynomial()):
        assert choose(spec, torch.device("cuda"), torch.float32).backend == "triton"


def test_sums_of_low_precision_are_float32():
    spec = specs.spec_named("wide")
    x, y, w, lists = on_device(inputs(spec, nodes=2, edges=400, dtype=torch.bfloat16))
    pin(spec, torch.bfloat16, default(spec))
    made = kernel_for(spec, x, "triton")(x, y, w, lists)
    wanted = convolve(spec, x.double(), y.double(), w.double(), lists)
    limit = 0.51 * torch.finfo(torch.bfloat16).eps * wanted.abs() + 1e-4
    assert bool(((made.double() - wanted).abs() <= limit).all())


def test_in_a_graph_of_cuda():
    """No kernel waits for the GPU: forward and backward are captured and replayed."""
    spec = specs.spec_named("wide")
    x, y, w, lists = on_device(inputs(spec, nodes=40, edges=900, dtype=torch.float32))
    function = kernel_for(spec, x, "triton")

    def both():
        return torch.autograd.grad(function(x, y, w, lists).square().sum(), (x, y, w))

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        wanted = [t.clone() for t in both()]
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = both()
    graph.replay()
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-4)


def test_under_torch_compile():
    spec = specs.spec_named("wide")
    x, y, w, lists = on_device(inputs(spec, nodes=40, edges=900, dtype=torch.float32))
    function = kernel_for(spec, x, "triton")
    with own_pins():  # what it takes is looked up
        made = torch.compile(lambda *a: function(*a).sin(), fullgraph=True)(x, y, w, lists)
    assert torch.allclose(made, function(x, y, w, lists).sin(), rtol=1e-5, atol=1e-5)
