"""benchmarks/gpu/radial, in Triton's interpreter: fused kernels compute what they say."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu.radial import compiled, ways
from benchmarks.gpu.radial import timed as study
from benchmarks.gpu.radial.kernel import Tile, fused, paths, segments, tiles
from irprune.edges import pack
from irprune.errors import UsageError
from irprune.irreps import Layout
from irprune.kernels.triton import launch
from tests.kernels import specs

pytestmark = pytest.mark.usefixtures("unscripted")

CPU = torch.device("cpu")


def kernels(spec, tile, how=segments):
    return [(group, tile) for group in how(spec)]


@pytest.fixture
def few(monkeypatch):
    """Four numbers go into the last radial layer, nine edges reach an atom."""
    monkeypatch.setattr(ways, "HIDDEN", 4)
    monkeypatch.setattr(ways, "DEGREE", 9)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", ["scalars", "odd", "shared"])
@pytest.mark.parametrize("edges", [2, 16])
def test_it_is_the_convolution_of_its_own_weights(name, edges):
    """Tiles that are too large for the edges of an atom, and tiles of which an atom takes several."""
    spec = specs.spec_named(name).in_layout(Layout.IR_MUL)
    ran = sum(n for k, n in launch.LAUNCHES.items() if k.startswith("fused"))
    given = ways.operands(spec, CPU, 18)
    each = ways.Fused(kernels(spec, Tile(edges, 16, 1, "ieee")))
    assert ways.error_of(spec, each, given) < 1e-6
    assert sum(n for k, n in launch.LAUNCHES.items() if k.startswith("fused")) > ran


def test_a_kernel_for_each_path_is_refused_where_paths_share_a_result():
    with pytest.raises(UsageError, match="share results: one kernel for each cannot add them"):
        paths(specs.spec_named("shared"))


@pytest.mark.usefixtures("few")
def test_rows_are_looked_up_and_atoms_without_edges_get_zeros():
    spec = specs.spec_named("odd").in_layout(Layout.IR_MUL)
    given = ways.operands(spec, CPU, 18)
    x, y, hidden, matrix = torch.cat([given.x, given.x[:1]]), given.y, given.hidden, given.matrix
    sender, receiver = torch.tensor([1, 0, 0, 1]), torch.tensor([0, 1, 1, 0])
    rows = torch.tensor([1, 1, 0, 0])
    edges = pack(sender, receiver, 3, rows)
    each = kernels(spec, Tile(2, 16, 1, "ieee"), paths)
    made = fused(x, y[:4].contiguous(), hidden[:2].contiguous(), matrix, edges, spec, each)
    weights = (hidden[:2] @ matrix)[rows]
    messages = spec.evaluate(x[sender], y[:4], weights)
    expected = x.new_zeros(3, spec.dims[2]).index_add(0, receiver, messages)
    assert (made - expected).abs().max() < 1e-5 * expected.abs().max()
    assert made[2].abs().max() == 0


def test_a_layout_as_text():
    for tile in tiles(48, "tf32x3"):
        assert Tile.parse(str(tile)) == tile
    assert {t.block for t in tiles(48, "ieee")} == {16, 32}
    assert {t.block for t in tiles(7, "ieee")} == {16}


@pytest.mark.usefixtures("few")
def test_both_ways_are_checked_and_timed_in_turn(monkeypatch):
    spec = specs.spec_named("odd")
    found = {
        "fused": {
            "ieee": {
                "segments": {"instructions": 9.0, "kernels": best(segments(spec), "ieee")},
                "paths": {"instructions": 8.0, "kernels": best(paths(spec), "ieee")},
            },
            "tf32x3": {how: {"instructions": None} for how in ("segments", "paths")},
            "tf32": {
                "segments": {"instructions": 5.0, "kernels": best(segments(spec), "tf32")},
                "paths": {"instructions": None},
            },
        }
    }
    assert [g for g, _ in compiled.chosen(found, spec, "ieee")] == list(paths(spec))
    assert [g for g, _ in compiled.chosen(found, spec, "tf32")] == list(segments(spec))
    assert compiled.chosen(found, spec, "tf32x3") == []

    monkeypatch.setattr(study, "ROUNDS", 1)
    monkeypatch.setattr(study, "CHECKED", 9)

    def timer(call):
        call()
        return 1e-6

    made = study.timed(spec, found, CPU, timer, 18)
    each = {
        "fused ieee",
        "fused tf32",
        *(f"separate {p}{w}" for p in ("float32", "tf32") for w in ("", " pairs")),
    }
    assert set(made["errors"]) == set(made["ns_per_edge"]) == each
    assert made["failed"] == {}
    assert set(made["ns_per_edge"].values()) == {1e-6 / 18 * 1e9}
    monkeypatch.setitem(study.TOLERANCES, "tf32", 0.0)
    monkeypatch.setattr(ways.Separate, "__call__", lambda self, *a: 1 / 0)
    made = study.timed(spec, found, CPU, timer, 18)
    assert set(made["ns_per_edge"]) == {"fused ieee"}
    assert made["failed"]["fused tf32"].startswith("it is wrong by ")
    assert made["config"] is None
    assert "ZeroDivisionError" in made["failed"]["separate block=16,warps=1,stages=1,variant=csr"]


def best(groups, precision):
    return [{"best": {"layout": str(Tile(2, 16, 1, precision))}} for _ in groups]
