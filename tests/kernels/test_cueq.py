"""cuEquivariance: the descriptor of the kept paths against the spec, and what the backend declines."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from irprune.backends import Reference, choose, convolve
from irprune.edges import pack
from irprune.errors import IrpruneError, UsageError
from irprune.irreps import Segment
from irprune.kernels.cueq import backend as module
from irprune.kernels.cueq.backend import CuEquivariance
from irprune.specs.path import PathSpec
from irprune.specs.table import TableSpec
from tests.kernels import specs

pytest.importorskip("cuequivariance")
pytest.importorskip("cuequivariance_torch")

from irprune.kernels.cueq.descriptor import describe, legal_width

CPU = torch.device("cpu")
NAMES = ("odd", "wide", "order 3", "shared")


def problem(spec, atoms=4, count=9, rows=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    sender, receiver = (torch.randint(atoms, (count,), generator=g) for _ in range(2))
    row = None if rows is None else torch.arange(count) % rows
    sizes = (atoms, spec.dims[0]), (count, spec.dims[1]), (rows or count, spec.n_weights)
    x, y, w = (torch.randn(*s, generator=g, dtype=torch.float64, requires_grad=True) for s in sizes)
    return x, y, w, pack(sender, receiver, atoms, row)


def pruned(spec, keep=2):
    """The spec with its first paths only: segments that no path touches, rows of fewer weights."""
    paths, at = [], 0
    for p in spec.paths[:keep]:
        paths.append(dataclasses.replace(p, weight=at))
        at += spec.in1[p.i1].mul
    return PathSpec(spec.in1, spec.in2, spec.out, tuple(paths), at)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [None, 5])
def test_values_and_gradients_are_those_of_the_spec(name, rows):
    spec = specs.spec_named(name)
    *operands, edges = problem(spec, rows=rows)
    kernel = CuEquivariance().kernel(spec)
    made, expected = kernel(*operands, edges), convolve(spec, *operands, edges)
    assert torch.allclose(made, expected, rtol=0, atol=1e-12)
    g = torch.randn(made.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    one = torch.autograd.grad((made * g).sum(), operands, create_graph=True)
    two = torch.autograd.grad((expected * g).sum(), operands, create_graph=True)
    for a, b in zip(one, two, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-11)
    loss = [sum((t**2).sum() for t in found) for found in (one, two)]
    second = [torch.autograd.grad(value, operands) for value in loss]
    for a, b in zip(*second, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("first", "width"), [("4x0e+6x1o", 2), ("5x0e+3x1o", 1), ("8x0e+4x1o", 4), ("6x0e", 3)]
)
def test_segments_of_a_legal_width_compute_the_same(first, width):
    """What ``uniform_1d`` gets, run by ``naive``: equal segments, one component each."""
    spec = specs.path_spec(specs.product(first, "0e+1o", 1))
    assert legal_width(spec) % width == 0
    made = describe(spec, width).product
    assert str(made.subscripts) == "u,u,,u"
    for operand in (made.operands[0], made.operands[1], made.operands[3]):
        assert {tuple(s) for s in operand} == {(width,)}
    assert made.num_paths == sum(len(p.coupling) * spec.in1[p.i1].mul // width for p in spec.paths)
    *operands, edges = problem(spec)
    found = module.Product(spec, "naive", width)(*operands, edges)
    assert torch.allclose(found, convolve(spec, *operands, edges), rtol=0, atol=1e-12)


def test_pruned_paths_are_not_described():
    spec = pruned(specs.spec_named("odd"))
    described = describe(spec)
    assert described.product.num_paths == 2
    assert set(described.features) == set(range(5))  # scalars only, of 5x0e+3x1o
    *operands, edges = problem(spec)
    found = CuEquivariance().kernel(spec)(*operands, edges)
    assert torch.allclose(found, convolve(spec, *operands, edges), rtol=0, atol=1e-12)
    untouched = np.setdiff1d(np.arange(spec.dims[2]), described.result)
    assert len(untouched)
    assert found[:, untouched].abs().max() == 0


def test_a_width_that_does_not_divide_is_refused():
    spec = specs.spec_named("odd")
    assert legal_width(spec) == 1
    with pytest.raises(ValueError, match="not divisible by 2"):
        describe(spec, 2)


def test_float32_stays_float32():
    spec = specs.spec_named("scalars")
    *operands, edges = problem(spec)
    assert (
        CuEquivariance().kernel(spec)(*(t.float() for t in operands), edges).dtype == torch.float32
    )


def test_it_is_asked_after_the_reference_on_the_cpu_and_serves_where_it_is_named():
    spec = specs.spec_named("odd")
    backend = CuEquivariance()
    assert backend.rank_on(CPU) < Reference.rank < backend.rank_on(torch.device("cuda"))
    assert choose(spec, CPU, torch.float64, "cuequivariance").backend == "cuequivariance"
    assert choose(spec, CPU, torch.float64).backend != "cuequivariance"


EMPTY = PathSpec((Segment(3, 0, 1),), (Segment(1, 0, 1),), (Segment(3, 0, 1),), (), 0)
TABLE = TableSpec(3, 3, ((0.0, 1.0, 4),))


@pytest.mark.parametrize(
    ("spec", "device", "dtype", "reason"),
    [
        (TABLE, "cpu", torch.float32, "serves convolutions, not a TableSpec"),
        (EMPTY, "cpu", torch.float32, "cannot describe a convolution without paths"),
        ("odd", "cpu", torch.float16, "float32 and float64 only, got torch.float16"),
        ("odd", "meta", torch.float32, "runs on CUDA and the CPU, the tensors are on meta"),
    ],
)
def test_declines(spec, device, dtype, reason):
    spec = specs.spec_named(spec) if isinstance(spec, str) else spec
    said = CuEquivariance().supports(spec, torch.device(device), dtype)
    assert str(said) == f"cuequivariance: {reason}"


@pytest.fixture
def packages(monkeypatch):
    """Packages that seem to be installed, and the version of cuequivariance-torch."""
    found = {"installed": set(), "version": "0.13.0"}
    module.missing.cache_clear()
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda name: name in found["installed"] or None
    )
    monkeypatch.setattr("importlib.metadata.version", lambda name: found["version"])
    yield found
    module.missing.cache_clear()


def test_declines_what_is_not_installed(packages):
    spec = specs.spec_named("odd")

    def said(device):
        module.missing.cache_clear()
        return str(CuEquivariance().supports(spec, torch.device(device), torch.float32))

    assert said("cpu") == (
        "cuequivariance: the package cuequivariance-torch is not installed"
        " (pip install 'irprune[cueq]')"
    )
    packages["installed"].add("cuequivariance_torch")
    assert said("cpu") == "None"
    assert said("cuda") == (
        "cuequivariance: its CUDA kernels are not installed"
        " (pip install cuequivariance-ops-torch-cu12)"
    )
    packages["version"] = "0.5.1"
    assert said("cpu") == (
        "cuequivariance: works with cuequivariance-torch 0.6 or later, found 0.5.1"
    )
    with pytest.raises(UsageError, match="the backend that was asked for declines: cueq"):
        choose(spec, CPU, torch.float32, "cuequivariance")


def test_another_method_than_the_one_asked_for_is_an_error(monkeypatch):
    """Without its CUDA kernels the package warns and runs another method; here that is an error."""
    monkeypatch.setattr("cuequivariance_torch.primitives.segmented_polynomial.HAS_CUE_OPS", False)
    with pytest.raises(IrpruneError) as error:
        module.Product(specs.spec_named("odd"), "uniform_1d")
    assert str(error.value) == (
        "cuequivariance_torch runs 'naive' in the place of 'uniform_1d';"
        " reinstall cuequivariance-ops-torch"
    )
