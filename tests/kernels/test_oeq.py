"""OpenEquivariance: what is declined, and what the package is given, with a stand-in for it.

The package needs a GPU to be imported. The stand-in computes what its documentation says in torch, with
coefficients of another sign and weights in another order.
"""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from e3nn import o3

from irprune.backends import convolve
from irprune.irreps import Segment
from irprune.kernels.oeq import backend as module
from irprune.kernels.oeq.backend import OpenEquivariance
from irprune.specs.path import PathSpec
from irprune.specs.table import TableSpec
from tests.kernels import specs
from tests.kernels.test_cueq import EMPTY, problem

CUDA = torch.device("cuda")


def wigner_3j(*orders):
    sign = -1 if orders == (1, 1, 0) else 1
    return sign * o3.wigner_3j(*orders, dtype=torch.float64).numpy()


class TPProblem:
    def __init__(self, irreps_in1, irreps_in2, irreps_out, instructions, **options):
        self.sides = [o3.Irreps(i) for i in (irreps_in1, irreps_in2, irreps_out)]
        self.instructions, self.options = instructions, options


class TensorProductConv:
    def __init__(self, problem, *, torch_op, deterministic):
        assert torch_op
        assert not deterministic
        o = problem.options
        assert o["irrep_normalization"] == o["path_normalization"] == "none"
        assert o["shared_weights"] is o["internal_weights"] is False
        assert o["irrep_dtype"] is o["weight_dtype"] is np.float64
        self.problem = problem

    def reorder_weights_from_e3nn(self, weights, has_batch_dim):
        assert has_batch_dim
        return weights.flip(1)

    def __call__(self, x, y, weights, rows, cols):
        w, at = weights.flip(1), 0
        in1, in2, out = self.problem.sides
        made = x.new_zeros(x.shape[0], out.dim)
        for i, j, k, mode, weighted in self.problem.instructions:
            assert (mode, weighted) == ("uvu", True)
            mul = in1[i].mul
            table = torch.from_numpy(wigner_3j(in1[i].ir.l, in2[j].ir.l, out[k].ir.l))
            left = x[cols][:, in1.slices()[i]].reshape(-1, mul, in1[i].ir.dim)
            message = torch.einsum(
                "zu,zua,zb,abc->zuc", w[:, at : at + mul], left, y[:, in2.slices()[j]], table
            )
            wide = torch.zeros(len(rows), out.dim, dtype=x.dtype)
            wide[:, out.slices()[k]] = message.flatten(1)
            made = made.index_add(0, rows, wide)
            at += mul
        return made


@pytest.fixture
def package(monkeypatch):
    found = ModuleType("openequivariance")
    found.Irreps, found.TPProblem = o3.Irreps, TPProblem
    found.TensorProductConv = TensorProductConv
    core, lite = ModuleType("openequivariance.core"), ModuleType("openequivariance.core.e3nn_lite")
    lite.wigner_3j = wigner_3j
    for m in (found, core, lite):
        monkeypatch.setitem(sys.modules, m.__name__, m)
    monkeypatch.setattr(module, "missing", lambda: None)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["odd", "order 3", "shared"])
@pytest.mark.parametrize("rows", [None, 5])
def test_values_and_gradients_are_those_of_the_spec(name, rows):
    spec = specs.spec_named(name)
    # coefficients of a checkpoint are those of float32; here the last digits are to agree
    assert OpenEquivariance().supports(spec, CUDA, torch.float64) is None
    *operands, edges = problem(spec, rows=rows)
    made = OpenEquivariance().kernel(spec)(*operands, edges)
    expected = convolve(spec, *operands, edges)
    assert torch.allclose(made, expected, rtol=1e-6, atol=1e-6)
    g = torch.cos(torch.arange(made.numel(), dtype=torch.float64)).view_as(made)
    for a, b in zip(
        torch.autograd.grad(made, operands, g),
        torch.autograd.grad(expected, operands, g),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("package")
def test_coefficients_that_are_not_its_own_are_declined():
    spec = specs.spec_named("odd")
    p = next(p for p in spec.paths if len(p.coupling) > 1)
    (a, b, c, value), *rest = p.coupling
    changed = dataclasses.replace(p, coupling=((a, b, c, 1.1 * value), *rest))
    paths = tuple(changed if q is p else q for q in spec.paths)
    other = PathSpec(spec.in1, spec.in2, spec.out, paths, spec.n_weights)
    assert str(OpenEquivariance().supports(other, CUDA, torch.float32)) == (
        f"openequivariance: the coefficients of path {p.i1} x {p.i2} -> {p.out} are no multiple of"
        " its own"
    )


@pytest.mark.parametrize(
    ("spec", "device", "dtype", "reason"),
    [
        ("odd", "cpu", torch.float32, "runs on CUDA and ROCm, the tensors are on cpu"),
        ("table", "cuda", torch.float32, "serves convolutions, not a TableSpec"),
        ("odd", "cuda", torch.float16, "float32 and float64 only, got torch.float16"),
        (
            "odd",
            "cuda",
            torch.float32,
            "the package openequivariance is not installed (pip install openequivariance)",
        ),
    ],
)
def test_declines(spec, device, dtype, reason, monkeypatch):
    module.missing.cache_clear()
    monkeypatch.setattr(
        module, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    )
    spec = TableSpec(3, 3, ((0.0, 1.0, 4),)) if spec == "table" else specs.spec_named(spec)
    said = OpenEquivariance().supports(spec, torch.device(device), dtype)
    assert str(said) == f"openequivariance: {reason}"
    module.missing.cache_clear()


@pytest.mark.usefixtures("package")
def test_a_convolution_without_paths_is_declined():
    assert isinstance(EMPTY.in1[0], Segment)
    said = OpenEquivariance().supports(EMPTY, CUDA, torch.float32)
    assert str(said) == "openequivariance: cannot describe a convolution without paths"
