"""The compiled linear map of irreps against its specification in torch."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from irprune.backends import Decline, choose, kernel_for, remember
from irprune.errors import UsageError
from irprune.kernels.cpu import linear_ops, ops
from irprune.layers.dense import BlockLinear
from irprune.specs.linear import LinearSpec

SMALL = LinearSpec("3x0e+2x1o+5x0e", "4x1o+3x0e", ((1, 1, 0, 0), (2, 2, 1, 1)))


@st.composite
def specs(draw):
    """Random segments, runs of equal ones mixed together, some mixed with nothing."""
    irs = draw(st.lists(st.sampled_from(["0e", "1o", "2e", "3o"]), min_size=1, max_size=4))
    sizes = st.integers(1, 40)
    groups, first, second = [], [], []
    for ir in irs:
        a, c = len(first), len(second)
        first += [f"{draw(sizes)}x{ir}" for _ in range(draw(st.integers(1, 2)))]
        second += [f"{draw(sizes)}x{ir}" for _ in range(draw(st.integers(1, 2)))]
        if draw(st.booleans()) or ir != "0e":
            groups.append((a, len(first) - 1, c, len(second) - 1))
    return LinearSpec("+".join(first), "+".join(second), tuple(groups))


def values(spec, n, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, spec.dims[0], generator=g, dtype=torch.float64).to(dtype)
    weights = [torch.randn(p.copies, generator=g, dtype=torch.float64) for p in spec.products]
    return x.requires_grad_(), [w.to(dtype).requires_grad_() for w in weights]


def derivatives(function, x, weights):
    """The result, gradients by everything, and gradients of these."""
    g = torch.Generator().manual_seed(1)
    out = function(x, weights)
    up = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype).requires_grad_()
    first = torch.autograd.grad((out * up).sum(), [x, *weights], create_graph=True)
    squares = sum(f.square().sum() for f in first)
    return [out, *first, *torch.autograd.grad(squares, [x, up, *weights])]


def compiled(spec, x):
    found = kernel_for(spec, x, "cpu")
    return lambda a, w: found(a, w)


@settings(max_examples=40, deadline=None)
@given(specs(), st.sampled_from([0, 1, 2, 7, 30]))
def test_equals_the_specification(spec, n):
    assume(spec.groups)
    assume(not choose(spec, torch.device("cpu"), torch.float64).declined)
    x, weights = values(spec, n)
    before = ops.CALLS["block_linear"]
    ours = derivatives(compiled(spec, x), x, weights)
    assert ops.CALLS["block_linear"] > before
    theirs = derivatives(spec.evaluate, x, weights)
    for a, b in zip(ours, theirs, strict=True):
        size = float(b.detach().abs().max()) if b.numel() else 0.0
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12 * max(size, 1.0))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n", [5, 700])
def test_threads_and_blocks_change_nothing(n, threads):
    spec = LinearSpec("70x0e+33x1o+9x2e", "17x0e+40x1o+16x2e", tuple((i,) * 4 for i in range(3)))
    x, weights = values(spec, n)
    had = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours = compiled(spec, x)(x, weights)
    finally:
        torch.set_num_threads(had)
    assert torch.allclose(ours, spec.evaluate(x, weights), rtol=1e-12, atol=1e-11)


def test_float32():
    x, weights = values(SMALL, 20, torch.float32)
    ours = compiled(SMALL, x)(x, weights)
    exact = SMALL.evaluate(x.double(), [w.double() for w in weights])
    assert torch.allclose(ours.double(), exact, rtol=0, atol=1e-5)


def test_other_strides():
    x, weights = values(SMALL, 6)
    wide = torch.stack((x, x), dim=2)[:, :, 0].detach().requires_grad_()
    turned = [w.detach().t().contiguous().t() for w in weights]
    assert not wide.is_contiguous()
    assert not turned[0].is_contiguous()
    ours = compiled(SMALL, wide)(wide, turned)
    assert torch.allclose(ours, SMALL.evaluate(x, weights), atol=1e-12)
    (g,) = torch.autograd.grad(ours.sum(), wide)  # an expanded gradient
    (want,) = torch.autograd.grad(SMALL.evaluate(x, weights).sum(), x)
    assert torch.allclose(g, want, atol=1e-12)


def test_the_operator_is_a_good_citizen():
    x, weights = values(SMALL, 4)
    for turned in (False, True):
        given_ = x if not turned else torch.randn(4, SMALL.dims[1], dtype=torch.float64)
        opcheck(linear_ops.block_linear, (given_, weights, remember(SMALL), turned))
    ways = (
        lambda a, *w: compiled(SMALL, a)(a, w),
        lambda a, *w: linear_ops.block_linear(a, list(w), remember(SMALL), False),
    )
    for way in ways:
        assert torch.autograd.gradcheck(way, (x, *weights))
        assert torch.autograd.gradgradcheck(way, (x, *weights))


def test_both_ways_to_the_kernel_are_one(monkeypatch):
    """Called straight, and as an operator where something watches."""
    x, weights = values(SMALL, 5)
    straight = derivatives(compiled(SMALL, x), x, weights)
    monkeypatch.setattr(linear_ops, "_watched", lambda x: True)
    watched = derivatives(compiled(SMALL, x), x, weights)
    for a, b in zip(straight, watched, strict=True):
        assert torch.equal(a, b)


def test_what_is_refused():
    x, weights = values(SMALL, 3)
    kernel = kernel_for(SMALL, x, "cpu")
    with pytest.raises(UsageError, match=r"block_linear: got 1 matrices, expected 2"):
        kernel(x, weights[:1])
    with pytest.raises(UsageError, match=r"block_linear.*x.*\[?\(?3, 13"):
        kernel(x[:, :13], weights)
    with pytest.raises(UsageError, match=r"block_linear.*matrix 1"):
        kernel(x, [weights[0], weights[1].t()])
    with pytest.raises(UsageError, match=r"block_linear.*float32"):
        kernel(x, [weights[0], weights[1].float()])


def test_scalars_are_left_to_torch():
    spec = LinearSpec("8x0e", "4x0e", ((0, 0, 0, 0),))
    found = choose(spec, torch.device("cpu"), torch.float32)
    assert "torch's own matrix product is faster" in str(found)
    assert found.backend == "reference"
    assert isinstance(found.declined[0], Decline)


def test_the_spec_is_a_value():
    again = LinearSpec.from_json(json.loads(json.dumps(SMALL.to_json())))
    assert again == SMALL
    assert hash(again) == hash(SMALL)
    assert again.key == SMALL.key != LinearSpec("3x0e", "3x0e", ((0, 0, 0, 0),)).key
    assert SMALL.dims == (14, 15)
    assert SMALL.flops() == 2 * (3 * 2 * 4 + 5 * 3)
    assert SMALL.bytes() == 4 * (14 + 15)
    assert str(SMALL) == (
        f"3x0e+2x1o+5x0e -> 4x1o+3x0e, {SMALL.key}\n  matrices 2x4 (dim 3), 5x3 (dim 1)"
    )


def test_the_module_adds_its_bias():
    module = BlockLinear("2x0e+2x1o", "3x0e+1x1o", ((0, 0, 0, 0), (1, 1, 1, 1)), bias=True).double()
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()
    x = torch.randn(4, 8, dtype=torch.float64)
    want = module.spec.evaluate(x, list(module.weights)) + module.bias
    assert torch.allclose(module(x), want, atol=1e-12)
