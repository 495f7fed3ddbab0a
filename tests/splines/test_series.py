"""Taylor coefficients against derivatives by autograd, and enclosures of them on intervals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irprune.errors import LegalityError
from irprune.splines import functions  # noqa: F401 - registers the rules
from irprune.splines.series import RULES, Series, Undecided

ORDER = 6
W = torch.linspace(-1.2, 1.1, 12, dtype=torch.float64).reshape(3, 4)
V = torch.linspace(0.3, -0.9, 8, dtype=torch.float64).reshape(4, 2)
F = torch.nn.functional
CASES = {
    "arithmetic": lambda x: (
        torch.rsub(x, 1.0)
        + torch.sub(x, 0.5)
        - W[0, 0] / x
        + (2 - x) * (x + 1) / (3 * x)
        - x / 4
        + (1 / x) ** 2
    ),
    "whole powers": lambda x: x**7 - 2 * x**0 + torch.square(x),
    "negative powers": lambda x: (-x) ** -3 + (x - 9) ** -2,
    "real powers": lambda x: torch.pow(x, 2.3) + x**-0.7 + torch.sqrt(x),
    "reciprocal": lambda x: (1 + x * x).reciprocal_(),
    "waves": lambda x: torch.sin(3 * x) * torch.cos(x) / x,
    "exponential": lambda x: torch.exp(-x * x),
    "sigmoid": lambda x: torch.sigmoid(2 * x - 3),
    "tanh": lambda x: torch.tanh(x**2),
    "silu": lambda x: F.silu(3 * x - 4),
    "softplus": lambda x: F.softplus(2 * x),
    "network": lambda x: F.silu(torch.mm(torch.cat([x, x * x, 1 / x], dim=-1), W)) @ V,
    "linear": lambda x: F.linear(x * W[0, :1], V.t()[:, :1], V[0]),
    "norm": lambda x: F.layer_norm(x * W[1] + 0.1 * W[0] * x * x, (4,), W[2], W[1]),
    "shapes": lambda x: x.reshape(-1).unsqueeze(-1).squeeze(-1).view(-1, 1).clone() * 2.0,
    "columns": lambda x: torch.cat([x, x * x, 1 / x], dim=-1)[:, 1:],
    "choice": lambda x: torch.where(x < 9.0, x * x, x) + torch.gt(x, 0.01) * x,
}


def norm(x):
    """A layer norm written out: torch's own has wrong third derivatives (torch 2.13)."""
    a = x * W[1] + 0.1 * W[0] * x * x
    c = a - a.mean(-1, keepdim=True)
    return c / torch.sqrt((c * c).mean(-1, keepdim=True) + 1e-5) * W[2] + W[1]


PLAIN = {**CASES, "norm": norm}


def derivatives(f, points, order):
    """By autograd, one at a time: [order + 1, K, W]."""
    out = []
    columns = f(points.unsqueeze(1)).shape[1]
    for c in range(columns):
        x = points.clone().requires_grad_(True)
        value, rows = f(x.unsqueeze(1))[:, c], []
        for _ in range(order + 1):
            rows.append(value.detach())
            if value.requires_grad:
                (grad,) = torch.autograd.grad(value.sum(), x, create_graph=True, allow_unused=True)
            else:
                grad = None
            value = torch.zeros_like(x) if grad is None else grad
        out.append(torch.stack(rows))
    return torch.stack(out, dim=-1)


@pytest.mark.parametrize("name", CASES)
def test_coefficients(name):
    points = torch.tensor([0.4, 1.0, 2.2], dtype=torch.float64)
    series = CASES[name](Series.variable(points, torch.zeros(3).double(), ORDER))
    want = derivatives(PLAIN[name], points, ORDER)
    factors = torch.tensor([float(math.factorial(k)) for k in range(ORDER + 1)]).double()
    got = series.mid * factors[:, None, None]
    assert torch.allclose(got, want, rtol=1e-9, atol=1e-9)
    assert float(series.rad.abs().max()) == 0.0


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(CASES)),
    st.floats(0.3, 3.0),
    st.floats(1e-4, 0.05),
    st.floats(-1, 1),
)
def test_enclosures(name, middle, radius, place):
    """Derivatives at any point of an interval lie in the balls."""
    given_ = (torch.tensor([v], dtype=torch.float64) for v in (middle, radius))
    series = CASES[name](Series.variable(*given_, ORDER))
    point = torch.tensor([middle + place * radius], dtype=torch.float64)
    want = derivatives(PLAIN[name], point, ORDER)
    for k in range(ORDER + 1):
        off = (want[k] / math.factorial(k) - series.mid[k]).abs()
        size = series.mid[k].abs() + 1
        assert bool((off <= series.rad[k] * (1 + 1e-9) + 1e-9 * size).all()), (
            k,
            off,
            series.rad[k],
        )


def test_tightening_undoes_what_linear_maps_lose():
    """x + (1 − x) is 1: a sum of balls does not see it, Taylor's theorem does."""
    x = Series.variable(*(torch.tensor([v], dtype=torch.float64) for v in (1.0, 0.1)), 3)
    both = torch.cat([x, 1 - x], dim=-1) @ torch.ones(2, 1, dtype=torch.float64)
    assert float(both.rad[0]) < 1e-15
    assert float((x + (1 - x)).rad[0]) == pytest.approx(0.2)


def test_a_threshold_inside_is_found():
    edges = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    x = Series.variable(edges, torch.full_like(edges, 0.5), 2)
    with pytest.raises(Undecided) as found:
        _ = 2 * x < 4.5
    assert found.value.row == 1
    assert found.value.offset == pytest.approx(0.25)
    with pytest.raises(LegalityError, match="compares a curved function"):
        _ = x * x < 4.5
    assert (x < 2.5).reshape(-1).tolist() == [True, True, False]
    assert (x >= 2.5).reshape(-1).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: torch.erf(x), "no derivatives of torch's erf are known"),
        (lambda x: x.abs(), "no derivatives of torch's abs are known"),
        (lambda x: 1 / (x - 1), "it divides by what may be zero"),
        (lambda x: (x - 1) ** 0.5, "it takes what may be zero to the power 0.5"),
        (lambda x: torch.mm(torch.ones(1, 1), x), "a matrix product with a matrix that depends"),
        (lambda x: F.softplus(x, 2.0), "softplus with a factor is not known"),
        (lambda x: x.to(torch.int64), "it is rounded to torch.int64"),
        (lambda x: torch.pow(x, torch.ones(2)), "powers with several exponents"),
        (lambda x: torch.cat([x, x], dim=0), "rows of several functions put after each other"),
    ],
)
def test_what_is_not_known_is_refused(f, message):
    x = Series.variable(torch.ones(1).double(), torch.full((1,), 0.1).double(), 2)
    with pytest.raises(LegalityError, match=message):
        f(x)


def test_every_rule_has_a_case_here(monkeypatch):
    """No rule is there that the cases do not run."""
    ran = set()

    def spied(f):
        def call(*args, **kwargs):
            ran.add(f)
            return f(*args, **kwargs)

        return call

    known = set(RULES.values())
    for name, f in list(RULES.items()):
        monkeypatch.setitem(RULES, name, spied(f))
    for case in CASES.values():
        case(Series.variable(torch.ones(1).double(), torch.zeros(1).double(), 1))
    assert known == ran
