"""benchmarks/gpu/radial without a GPU: what is counted, and the result that is committed."""

from __future__ import annotations

import json

import pytest

from benchmarks.gpu.radial import compiled, run
from benchmarks.gpu.radial.kernel import Tile
from irprune.kernels.tuner.architecture import architecture_named
from tests.kernels.tuner.fakes import scalars

pytest.importorskip("triton")

H100 = architecture_named("sm_90")


@pytest.fixture
def small(monkeypatch):
    """Sixteen numbers go into the last radial layer; one layout that fits, one that spills."""
    both = lambda mul, precision: (Tile(16, 16, 4, precision), Tile(32, 32, 1, precision))  # noqa: E731
    monkeypatch.setattr(compiled, "tiles", both)
    monkeypatch.setattr(compiled, "HIDDEN", 16)
    monkeypatch.setattr(compiled, "PRECISIONS", ("tf32",))
    monkeypatch.setattr(compiled, "processors", lambda: 1)


@pytest.mark.usefixtures("small")
def test_both_ways_are_compiled():
    found = compiled.compare(scalars(), H100)
    assert found["weights"] == 20
    assert found["flops_of_radial_layer"] == 2 * 16 * 20
    assert found["separate"]["instructions"] > 10
    times = found["ns_per_edge_on_paper"]
    assert set(times) == {"separate float32", "separate tf32", "fused tf32"}
    read = 4 * 20 + 4 + 24 + 4 * 40 / 40  # a row, a harmonic, three indices, an atom's rows
    assert times["separate tf32"] == round((read + (4 * 20 + 4 * 16) / 2) / 4.8e12 * 1e9, 2)
    for way in found["fused"]["tf32"].values():
        (kernel,) = way["kernels"]
        rows = [compiled.tried(scalars(), group, str(tile), H100) for group, tile in chosen(found)]
        assert kernel["best"] in rows
        assert kernel["best"]["stack"] == 0
        assert way["instructions"] == kernel["best"]["instructions"]


def chosen(found):
    return compiled.chosen(found, scalars(), "tf32")


def test_what_spills_is_left_out(monkeypatch):
    rows = {"16": 0, "32": 8}

    def tried(spec, group, layout, architecture):
        tile = Tile.parse(layout)
        stack = rows[str(tile.edges)] if len(group.paths) == 1 else 8
        return {"layout": layout, "stack": stack, "instructions": 100.0 / tile.edges}

    monkeypatch.setattr(compiled, "tried", tried)
    monkeypatch.setattr(compiled, "processors", lambda: 1)
    made = compiled.together(scalars(), "paths", "ieee", H100)
    assert made["instructions"] == 6.2
    assert made["spilling"] == "6 of 12"
    rows["16"] = 8
    made = compiled.together(scalars(), "paths", "ieee", H100)
    assert (made["instructions"], made["spilling"]) == (None, "12 of 12")


def test_the_committed_result_is_of_the_layers_that_are_asked_for(repo):
    found = json.loads((repo / "benchmarks/results/gpu/radial-sm_90.json").read_text())
    assert found["architecture"] == "sm_90"
    assert set(found["layers"]) == set(run.LAYERS)
    for row in found["layers"].values():
        assert set(row["fused"]) == set(compiled.PRECISIONS)
        assert "timed" not in row


def test_the_page_says_what_the_result_has(repo):
    found = json.loads((repo / "benchmarks/results/gpu/radial-sm_90.json").read_text())["layers"]
    page = (repo / "benchmarks/gpu/README.md").read_text()
    rows = {
        "apart, float32": "separate float32",
        "inside, float32": "fused ieee",
        "inside, tf32x3": "fused tf32x3",
        "apart, tf32": "separate tf32",
        "inside, tf32": "fused tf32",
    }
    for title, key in rows.items():
        times = (f"{found[name]['ns_per_edge_on_paper'][key]:.2f}" for name in run.LAYERS)
        assert f"| {title} | {' | '.join(times)} |" in page
    counts = {name: row["separate"]["instructions"] for name, row in found.items()}
    fewest = {"convolution that reads its weights": counts}
    for title, precision in (("float32", "ieee"), ("tf32x3", "tf32x3"), ("tf32", "tf32")):
        fewest[f"with the layer inside, {title}"] = {
            name: min(
                w["instructions"] for w in row["fused"][precision].values() if w["instructions"]
            )
            for name, row in found.items()
        }
    for title, values in fewest.items():
        numbers = " | ".join(f"{values[name]:.0f}" for name in run.LAYERS)
        assert f"| {title} | {numbers} |" in page
    ratios = [v[n] / counts[n] for v in fewest.values() if v is not counts for n in counts]
    said = f"{min(ratios):.1f} to {max(ratios):.0f} times the\ninstructions of the convolution"
    assert said in (repo / "docs/kernels.md").read_text()
