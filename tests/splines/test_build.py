"""Splines against the functions that they stand for; bounds that hold, and are not far off."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from irprune.errors import LegalityError, UsageError
from irprune.specs.table import TableSpec
from irprune.splines import build
from irprune.splines.hermite import coefficients, slope_error, value_error
from irprune.splines.series import Series

START, STOP = 0.5, 5.0
g = torch.Generator().manual_seed(0)
W1, W2, W3 = (
    torch.randn(a, b, generator=g, dtype=torch.float64) * 1.3 / a**0.5
    for a, b in ((6, 16), (16, 16), (16, 9))
)
WAVES = torch.arange(1, 7, dtype=torch.float64) * math.pi / STOP


def network(r):
    """A Bessel basis that a switching function of two pieces cuts off, and a small network."""
    switch = torch.where(r < 4.5, 1.0, (25 - r * r) ** 2 * (25 + 2 * r * r - 60.75) / 107.171875)
    x = torch.sin(WAVES * r) / r * switch
    x = torch.nn.functional.silu(torch.mm(x, W1))
    return torch.mm(torch.nn.functional.silu(torch.mm(x, W2)), W3)


def errors(f, found, points):
    spec = TableSpec(found.table.shape[-1], found.table.shape[2] - 1, found.pieces)
    ours = torch.func.jvp(lambda r: spec.evaluate(r, found.table), (points,), (points * 0 + 1,))
    theirs = torch.func.jvp(lambda r: f(r.unsqueeze(1)), (points,), (points * 0 + 1,))
    scale = found.scales[0]
    return [
        float((a - b).abs().max()) / s
        for a, b, s in zip(ours, theirs, (scale.value, scale.slope), strict=True)
    ]


@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-8])
def test_the_bounds_hold_and_are_near(degree, tol):
    found = build.splines([network], START, STOP, degree, tol)
    assert max(found.value_bound, found.slope_bound) <= tol
    points = torch.linspace(START, STOP, 20011, dtype=torch.float64)[1:-1]
    value, slope = errors(network, found, points)
    assert value <= found.value_bound * (1 + 1e-6) + 1e-13
    assert slope <= found.slope_bound * (1 + 1e-6) + 1e-12
    assert slope >= found.slope_bound / 50
    assert found.pieces[-1][0] == pytest.approx(4.5, abs=1e-12)


def test_the_error_formulas_are_attained():
    """By x^{2m}, whose interpolation error is the whole of it."""
    for degree, m in ((3, 2), (5, 3)):
        h = 0.7
        ends = [
            torch.tensor([math.comb(2 * m, k) * x ** (2 * m - k) * h**k for k in range(m)]).double()
            for x in (0.0, h)
        ]
        c = coefficients(*(e.unsqueeze(1) for e in ends)).squeeze(1)
        t = torch.linspace(0, 1, 100001, dtype=torch.float64)
        spline = sum(c[k] * t**k for k in range(2 * m))
        slope = sum(k * c[k] * t ** (k - 1) for k in range(1, 2 * m)) / h
        x = t * h
        derivative = float(math.factorial(2 * m))
        worst = float((x ** (2 * m) - spline).abs().max())
        assert worst == pytest.approx(value_error(degree, h, derivative), rel=1e-6)
        worst = float((2 * m * x ** (2 * m - 1) - slope).abs().max())
        assert worst == pytest.approx(slope_error(degree, h, derivative), rel=1e-6)


def test_neighbouring_polynomials_meet():
    found = build.splines([network], START, STOP, 5, 1e-6)
    left = found.table[0, :-1].sum(dim=1)
    right = found.table[0, 1:, 0]
    assert torch.allclose(left, right, rtol=0, atol=1e-11)


def test_breakpoints():
    ends = build.breakpoints(network, START, STOP)
    assert ends == pytest.approx([0.5, 4.5, 5.0], abs=1e-12)
    twice = build.breakpoints(
        lambda r: torch.where(r < 2.0, r, torch.where(r < 3.25, 2 * r, r)), START, STOP
    )
    assert twice == pytest.approx([0.5, 2.0, 3.25, 5.0], abs=1e-12)
    graded = build.graded(ends)
    assert all(b / a <= build.GRADE * (1 + 1e-12) for a, b in itertools.pairwise(graded))


@pytest.mark.parametrize("start", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("threshold", [4.5, 4.25, 4.75])
def test_thresholds_on_even_places_are_found(start, threshold):
    """Also where a grid of the range would have an edge there, and whatever the scale is."""
    for size in (1.0, 1e-10, 1e10):
        ends = build.breakpoints(
            lambda r, s=size: torch.where(r * s < threshold * s, r, r * r), start, STOP
        )
        assert ends == pytest.approx([start, threshold, STOP], rel=1e-9)


def test_a_function_that_mostly_vanishes_has_the_scale_of_the_rest():
    for amplitude in (1.0, 1e-6):
        found = build.splines(
            [lambda r, a=amplitude: a * torch.where(r < 2.0, torch.sin(3 * r) * (2 - r) ** 3, 0.0)],
            START, STOP, 5, 1e-6,
        )  # fmt: skip
        assert 0.01 * amplitude < found.scales[0].value < 10 * amplitude


def test_several_functions_share_their_knots():
    found = build.splines([network, lambda r: 3 * network(r)], START, STOP, 5, 1e-6)
    assert torch.allclose(3 * found.table[0], found.table[1], rtol=1e-9, atol=1e-10)
    assert found.scales[1].value == pytest.approx(3 * found.scales[0].value)


def test_the_bound_of_a_derivative():
    """Of sin 3r: 3⁶, wherever a peak lies within."""
    found = build.largest_derivative(lambda r: torch.sin(3 * r), 1.0, 4.0, 6)
    assert 729 <= found <= 729 * build.CLOSE


def test_what_is_refused():
    with pytest.raises(UsageError, match=r"^splines of degree 4 are not known; known are 3 and 5$"):
        build.splines([network], START, STOP, 4, 1e-6)
    with pytest.raises(
        UsageError, match=r"^a tolerance of 1e-30 needs \d+ polynomials of degree 3"
    ):
        build.splines([network], START, STOP, 3, 1e-30)
    with pytest.raises(LegalityError, match=r"^it does not depend on the distance$"):
        build.splines([lambda r: torch.ones(3, 1)], START, STOP, 5, 1e-6)
    with pytest.raises(LegalityError, match=r"^it divides by what may be zero$"):
        build.splines([lambda r: 1 / (r - 2)], START, STOP, 5, 1e-6)
    with pytest.raises(LegalityError, match=r"^its derivatives are no numbers near 0\.5"):
        build.splines([lambda r: r * math.inf], START, STOP, 5, 1e-6)


@pytest.mark.parametrize("damage", ["value", "knot", "piece"])
def test_a_wrong_table_is_off_by_more_than_its_bound(damage):
    found = build.splines([network], START, STOP, 5, 1e-6)
    if damage == "value":
        found.table[0, 3, 2] *= 1.01
    elif damage == "knot":
        found.table[0, :-1] = found.table[0, 1:].clone()
    else:
        pieces = list(found.pieces)
        pieces[0] = (pieces[0][0] - 0.001, *pieces[0][1:])
        object.__setattr__(found, "pieces", tuple(pieces))
    points = torch.linspace(START, STOP, 20011, dtype=torch.float64)[1:-1]
    value, slope = errors(network, found, points)
    assert value > found.value_bound or slope > found.slope_bound


def test_series_run_as_tensors_do():
    out = network(Series.variable(torch.tensor([1.5]).double(), torch.zeros(1).double(), 0))
    want = network(torch.tensor([[1.5]]).double())
    assert torch.allclose(out.mid[0], want, rtol=1e-14, atol=1e-14)
