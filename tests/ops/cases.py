"""One small module for every way that a built-in op can be used, with the inputs it takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from e3nn import nn as enn
from e3nn import o3
from torch import nn

from irprune.functional import OneHot
from irprune.layers.elements import ElementLinear
from irprune.layers.polynomial import ElementPolynomial
from irprune.layers.scale import ComponentScale, ComponentShift
from tests.kernels.specs import polynomial
from tests.networks import instructions

A, B = o3.Irreps("3x0e+2x1o+1x2e"), o3.Irreps("2x0e+1x1o")
PAIR = o3.Irreps("3x0e+2x1o")
MODES = ("uvw", "uvu", "uvv", "uuw", "uuu", "uvuv", "uvu<v", "u<vw")


def product(mode: str, merged: bool, internal: bool) -> o3.TensorProduct:
    second = PAIR if mode in ("uuw", "uuu", "uvu<v", "u<vw") else B
    first = PAIR if second is PAIR else A
    out, paths = instructions(mode, first, second, merged)
    return o3.TensorProduct(
        first, second, out, paths, shared_weights=internal, internal_weights=internal
    )


def merging() -> o3.TensorProduct:
    """Weighted and unweighted paths of several modes into shared outputs, unequal coefficients."""
    return o3.TensorProduct(
        "2x0e+2x1o",
        "2x0e+2x1o",
        "2x0e+2x1o+2x1e",
        [
            (0, 0, 0, "uvu", True, 0.7),
            (1, 1, 0, "uuu", False),
            (0, 1, 1, "uvv", True, 2.0),
            (1, 0, 1, "uvw", True),
            (1, 1, 2, "uuu", True),
            (1, 1, 2, "uvw", True, 0.3),
        ],
    )


def biased() -> o3.Linear:
    made = o3.Linear("2x0e+1x1o+3x0e", "3x0e+2x1o+1x0o", biases=True)
    nn.init.normal_(made.bias)
    return made


def odd_net() -> enn.FullyConnectedNet:
    return enn.FullyConnectedNet([3, 5, 2], torch.tanh, variance_in=2, variance_out=3, out_act=True)


def filled(module: nn.Module) -> nn.Module:
    for p in module.parameters():
        nn.init.normal_(p)
    return module


def stirred(module: nn.Module) -> nn.Module:
    """A BatchNorm with statistics and weights of its own, in evaluation mode."""
    nn.init.normal_(module.running_mean)
    nn.init.uniform_(module.running_var, 0.5, 2.0)
    return filled(module).eval()


def by_element() -> nn.Module:
    """Two paths into one output, one output without a path."""
    return filled(ElementLinear(9, "3x0e+2x1o", "2x0e+1x1e+4x1o", ((0, 0), (1, 2))))


def by_polynomial() -> nn.Module:
    return filled(ElementPolynomial(polynomial(3), 9))


Case = tuple[Callable[[], nn.Module], dict[str, str]]
X = {"x": str(A)}


def _product(mode: str, merged: bool, internal: bool) -> Case:
    made = lambda: product(mode, merged, internal)  # noqa: E731 - built when the test runs
    first = str(PAIR if mode in ("uuw", "uuu", "uvu<v", "u<vw") else A)
    second = str(PAIR if first == str(PAIR) else B)
    inputs = {"x": first, "y": second}
    if not internal:
        inputs["w"] = "w"
    return made, inputs


CASES: dict[str, Case] = {
    "linear": (lambda: o3.Linear(A, "4x0e+3x2e+2x1o"), X),
    "linear-bias": (biased, {"x": "2x0e+1x1o+3x0e"}),
    "linear-split": (lambda: o3.Linear("2x0e+3x0e+1x1o", "1x0e+1x1o+2x0e"), {"x": "5x0e+1x1o"}),
    "linear-missing-paths": (
        lambda: o3.Linear(
            "2x0e+3x0e+2x1o", "4x0e+1x1o+2x0e", instructions=[(0, 0), (1, 0), (1, 2)]
        ),
        {"x": "2x0e+3x0e+2x1o"},
    ),
    "torch-linear": (lambda: nn.Linear(4, 3), {"x": "4x0e"}),
    **{f"tp-{m}": _product(m, False, True) for m in MODES},
    **{f"tp-{m}-merged": _product(m, True, True) for m in MODES},
    "tp-uvu-external": _product("uvu", False, False),
    "tp-uvu-external-merged": _product("uvu", True, False),
    "tp-uvw-external": _product("uvw", True, False),
    "tp-mixed": (merging, {"x": "2x0e+2x1o", "y": "2x0e+2x1o"}),
    "fctp": (lambda: o3.FullyConnectedTensorProduct(A, B, "3x0e+2x1o"), {"x": str(A), "y": str(B)}),
    "elementwise": (
        lambda: o3.ElementwiseTensorProduct("3x0e+2x1o", "2x1o+3x1e"),
        {"x": "3x0e+2x1o", "y": "2x1o+3x1e"},
    ),
    "full": (lambda: o3.FullTensorProduct("2x0e+1x1o", "1x0e+1x1o"), {"x": str(B), "y": "0e+1o"}),
    "gate": (
        lambda: enn.Gate(
            "2x0e+1x0o", [torch.sigmoid, torch.abs], "3x0e", [torch.tanh], "2x1o+1x2e"
        ),
        {"x": "irreps_in"},
    ),
    "gate-odd": (
        lambda: enn.Gate("1x0o", [torch.tanh], "1x0e+2x0o", [torch.sigmoid, torch.tanh], "3x1o"),
        {"x": "irreps_in"},
    ),
    "gate-empty": (lambda: enn.Gate("3x0e", [torch.tanh], "", [], ""), {"x": "3x0e"}),
    "activation": (
        lambda: enn.Activation("2x0e+1x0o+1x0e+1x1o", [torch.sigmoid, torch.tanh, None, None]),
        {"x": "2x0e+1x0o+1x0e+1x1o"},
    ),
    "fcn": (lambda: enn.FullyConnectedNet([3, 5, 4, 2], torch.nn.functional.silu), {"x": "3x0e"}),
    "fcn-variances": (odd_net, {"x": "3x0e"}),
    "fcn-no-hidden": (lambda: enn.FullyConnectedNet([3, 2], torch.tanh), {"x": "3x0e"}),
    "harmonics": (
        lambda: o3.SphericalHarmonics([0, 1, 2, 3], True, "component"),
        {"x": "edge:1x1o"},
    ),
    "harmonics-even-l": (lambda: o3.SphericalHarmonics([0, 2], False, "norm"), {"x": "edge:1x1o"}),
    "batch-norm": (
        lambda: stirred(enn.BatchNorm("2x0e+1x1o+1x0o+3x0e")),
        {"x": "2x0e+1x1o+1x0o+3x0e"},
    ),
    "batch-norm-plain": (lambda: stirred(enn.BatchNorm(A, affine=False)), X),
    "norm-activation": (
        lambda: filled(enn.NormActivation(A, torch.sigmoid, bias=True)),
        X,
    ),
    "norms": (lambda: o3.Norm(A), X),
    "norms-squared": (lambda: o3.Norm("2x1o+1x0e+2x1o", squared=True), {"x": "2x1o+1x0e+2x1o"}),
    "dropout": (lambda: enn.Dropout(A, 0.5).eval(), X),
    "identity": (lambda: enn.Identity(A, A), X),
    "layer-norm": (lambda: filled(nn.LayerNorm(5)), {"x": "5x0e"}),
    "component-scale": (
        lambda: ComponentScale(
            torch.tensor([0.5, 2.0, 0.0]).repeat_interleave(torch.tensor([1, 1, 3]))
        ),
        {"x": "2x0e+1x1o"},
    ),
    "component-scale-trained": (
        lambda: ComponentScale(nn.Parameter(torch.randn(4))),
        {"x": "4x0e"},
    ),
    "component-shift": (lambda: ComponentShift(nn.Parameter(torch.randn(4))), {"x": "4x0e"}),
    "embedding": (lambda: nn.Embedding(9, 4), {"x": "index"}),
    "one-hot": (lambda: OneHot(4), {"x": "index"}),
    "element-linear": (by_element, {"x": "3x0e+2x1o", "y": "index"}),
    "element-polynomial": (by_polynomial, {"x": "3x0e+3x1o", "y": "index"}),
}


def made(name: str) -> tuple[nn.Module, dict[str, str]]:
    """The module of a case in double precision, and its inputs."""
    torch.manual_seed(len(name))
    build, inputs = CASES[name]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        module = build()
    finally:
        torch.set_default_dtype(before)
    known = {"w": lambda: f"{module.weight_numel}x0e", "irreps_in": lambda: str(module.irreps_in)}
    return module, {k: known[t]() if t in known else t for k, t in inputs.items()}
