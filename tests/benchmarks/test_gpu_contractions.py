"""benchmarks/gpu: contractions like MACE's, and the order in which everything is reached."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from e3nn import o3

from benchmarks.gpu import correctness, kernels, stages
from benchmarks.gpu.contractions import CONTRACTIONS, INPUTS, contraction_spec, couplings
from benchmarks.gpu.correctness import errors_of, operands, parts_of
from benchmarks.gpu.shapes import ITEMS, LAYERS, Layer, kernel_spec
from irprune.backends import kernel_for
from irprune.irreps import Layout
from tests.benchmarks.fakegpu import fake_gpu

pytestmark = pytest.mark.usefixtures("unscripted")

SMALL, MEDIUM, LARGE = CONTRACTIONS
MACE = next(layer for layer in LAYERS if layer.name == "mace-small")
CPU = torch.device("cpu")


def test_paths_are_those_of_mace():
    """1, 4 and 23 couplings into a scalar, as in MACE's U; of them 1, 4 and 8 are polynomials."""
    assert [couplings(INPUTS, (0, 1), nu).shape[-1] for nu in (1, 2, 3)] == [1, 4, 23]
    spec = contraction_spec(SMALL, 5)
    assert (spec.n_paths, spec.degree, spec.channels) == (1 + 4 + 8, 3, 5)
    assert spec.irreps_in == "5x0e+5x1o+5x2e+5x3o"
    sizes = [len(contraction_spec(c, 5).terms) for c in CONTRACTIONS]
    assert sizes == sorted(set(sizes))


def test_it_is_equivariant():
    spec = contraction_spec(LARGE, 2).in_layout(Layout.IR_MUL)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 16, 2, generator=g, dtype=torch.float64)
    w = torch.randn(3, spec.n_paths, 2, generator=g, dtype=torch.float64)
    turned = o3.rand_matrix(dtype=torch.float64)
    before, after = (
        o3.Irreps([(1, ir) for ir in irreps]).D_from_matrix(turned)
        for irreps in (INPUTS, LARGE.outputs)
    )
    plain = spec.evaluate(x.flatten(1), w).view(3, -1, 2)
    made = spec.evaluate(torch.einsum("ij,njk->nik", before, x).flatten(1), w).view(3, -1, 2)
    assert plain.abs().amax(dim=(0, 2)).min() > 1e-3
    assert torch.allclose(torch.einsum("ij,njk->nik", after, plain), made, atol=1e-10)


def test_values_and_derivatives_of_a_polynomial_are_compared():
    spec = contraction_spec(MEDIUM, 3)
    given = operands(spec, 6, 0, "cpu", torch.float64)
    kernel = kernel_for(spec, given[0], "reference")
    right = errors_of(spec, kernel, given)
    assert list(right) == parts_of(spec) == [
        "value", "by x", "by w", "second by g", "second by x", "second by w"
    ]  # fmt: skip
    assert max(right.values()) < 1e-13
    off = errors_of(spec, lambda x, w, which: kernel(x, w * 1.01, which), given)
    assert min(off.values()) > 1e-4
    lost = errors_of(spec, lambda x, w, which: kernel(x * math.nan, w, which), given)
    assert lost["value"] == math.inf


def test_a_contraction_by_all_that_serve(monkeypatch):
    real = kernels.serving

    def serving(*args):
        names, left = real(*args)
        return [n for n in names if n == "reference"], left

    monkeypatch.setattr(kernels, "serving", serving)
    row = kernels.measure(SMALL, 0.25, "odd", fake_gpu(), count=400, rounds=2, small=200)
    assert row["failed"] == {}
    assert set(row["errors"]) == {"reference"}
    assert row["left"]["e3nn"] == "has no symmetric contraction"
    assert row["rows"] == row["nodes"] == 10
    assert row["ns_per_row"]["double backward"]["reference"] == pytest.approx(5e7)


def test_every_kernel_is_checked_in_one_precision_before_the_next(tmp_path, monkeypatch):
    seen = []
    narrow = {kind: kernel_spec(kind, 0.25) for kind in (SMALL, MACE)}
    monkeypatch.setattr(
        stages, "kernel_spec", lambda item, *_: narrow[MACE if isinstance(item, Layer) else SMALL]
    )
    monkeypatch.setattr(correctness, "operands", lambda *a: None)
    monkeypatch.setattr(
        correctness, "compare", lambda spec, config, given: seen.append(config) or {"ok": True}
    )
    arguments = SimpleNamespace(
        device="cpu", nodes=1, edges=1, o=tmp_path, dtypes=["float32", "float64"], keep=[1.0, 0.5],
        layers=[i.name for i in ITEMS],
    )  # fmt: skip
    stages.check(arguments)
    rows = json.loads((tmp_path / "correctness.json").read_text())["results"]
    first = {(r["dtype"], r["keep"]) for r in rows[: 5 * 2 + 3]}
    assert first == {("float32", 1.0)}
    assert {r["layer"] for r in rows[: 5 * 2 + 3]} == {i.name for i in ITEMS}
    assert rows[5 * 2 + 2]["layer"] == "sevennet-l3i5"
    assert [r["dtype"] for r in rows] == sorted(r["dtype"] for r in rows)
    assert {r["variant"] for r in rows if "contraction" in r["layer"]} == {"rows"}
    assert {c.variant for c in seen} == {"csr", "atomic", "rows"}
    assert kernel_spec(SMALL, 0.5, "odd").channels == 63
