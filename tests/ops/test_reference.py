"""Every op's plain reference evaluation against the module it stands for."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

from irprune.ops.base import load_builtin_ops, op_of_class, registered_ops
from tests.handmade import op_at, single
from tests.ops.cases import CASES, made

pytestmark = pytest.mark.usefixtures("unscripted")


@pytest.mark.parametrize("name", [n for n in CASES if n != "torch-linear"])
def test_reference_agrees(name):
    module, inputs = made(name)
    graph = single(module, **inputs)
    op, site = op_at(graph, "op")
    for grow in (0, 3):
        args = graph.example(seed=grow, grow=grow)
        if name == "one-hot":
            args = (args[0] % module.n,)
        expected = op.reference(site, args)
        assert expected is not None
        assert expected.shape[1] == site.result.dim
        got = module(*args)
        assert got.abs().max() > 0
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_every_op_with_a_reference_has_a_case():
    load_builtin_ops()
    with_reference = {
        op.name
        for op in registered_ops()
        if "reference" in type(op).__dict__ and type(op).__module__.startswith("irprune.ops.")
    }
    tested = {op_of_class(type(made(n)[0])).name for n in CASES}
    # tests/kernels, tests/ops/test_layouts.py
    elsewhere = {"convolution", "radial-table", "block-linear", "change-layout", "plain-gate"}
    cueq = {"cue-linear", "cue-transpose", "cue-contraction"}  # test_cueq
    assert with_reference <= tested | elsewhere | cueq


def test_harmonics_against_legendre_polynomials():
    """Independent of e3nn's code for x, y, z: Y_l by angles."""
    module, _ = made("harmonics")
    x = torch.randn(6, 3, dtype=torch.float64)
    alpha, beta = o3.xyz_to_angles(x)
    expected = o3.spherical_harmonics_alpha_beta(
        [0, 1, 2, 3], alpha, beta, normalization="component"
    )
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)
