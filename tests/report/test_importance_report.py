"""Pictures of importance: what is drawn is what was scored."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from irprune.report.html import render
from irprune.report.importance_svg import heat_map, log_density, violins
from irprune.report.model import Importance, Report
from irprune.report.svg import LogAxis

BLOCKS = {
    "layer 0": {"0e": [1e-3, 1.0, 1e-2, 1e-2], "1e": [1e-3, 1e-1]},
    "layer 1": {"0e": [1e-4, 0.0], "1o": [1.0]},
}


def cells(blocks=BLOCKS):
    """(title, x, width, opacity) of every shape of the map."""
    root = ElementTree.fromstring(heat_map(blocks))
    return [
        (r[0].text, *(float(r.attrib[k]) for k in ("x", "width", "fill-opacity")))
        for r in root.iter("rect")
        if len(r)
    ]


def test_rows_of_the_map_are_sorted_and_darker_to_the_left() -> None:
    found = [c for c in cells() if c[0].startswith("layer 0, 0e")]
    assert [c[0].split(": ")[1] for c in found] == [
        "blocks 1 to 1, 1.00e+00 to 1.00e+00",
        "blocks 2 to 3, 1.00e-02 to 1.00e-02",
        "blocks 4 to 4, 1.00e-03 to 1.00e-03",
    ]
    assert [c[1] for c in found] == sorted(c[1] for c in found)
    shades = [c[3] for c in found]
    assert shades == sorted(shades, reverse=True)
    assert shades[0] == pytest.approx(1.0)
    assert shades[1] == pytest.approx(0.04 + 0.96 * 0.5)
    widths = [c[2] for c in found]
    assert widths[1] == pytest.approx(2 * widths[0], rel=1e-3)


def test_one_scale_serves_all_rows() -> None:
    ones = [c[3] for c in cells() if "1.00e+00" in c[0]]
    assert len(ones) == 2
    assert ones == pytest.approx([1.0, 1.0])
    (zero,) = (c[3] for c in cells() if "0.00e+00" in c[0])
    assert zero == pytest.approx(0.04)


def test_a_map_of_many_blocks_stays_small() -> None:
    rng = np.random.default_rng(0)
    blocks = {"layer": {"0e": (10 ** rng.uniform(-8, 0, 5000)).tolist()}}
    assert len(heat_map(blocks)) < 20_000
    last = cells(blocks)[-1]
    assert "to 5000," in last[0]
    assert last[1] + last[2] < 745


def test_violins_stand_where_the_scores_are() -> None:
    root = ElementTree.fromstring(violins(BLOCKS))
    shapes = {p.attrib["class"]: p for p in root.iter("polygon")}
    assert set(shapes) == {"l0", "l1"}
    assert "l = 0: 5 blocks, median 1.00e-02, 1.00e-04 to 1.00e+00" in shapes["l0"][0].text
    axis = LogAxis.of(v for layer in BLOCKS.values() for vs in layer.values() for v in vs)
    xs = [float(p.split(",")[0]) for p in shapes["l1"].attrib["points"].split()]
    assert min(xs) < axis.at(1e-3) < axis.at(1.0) <= max(xs)
    medians = [
        float(line.attrib["x1"]) for line in root.iter("line") if "median" in str(line.attrib)
    ]
    assert medians == pytest.approx([axis.at(1e-2), axis.at(1e-1)], abs=0.1)
    assert "6 blocks, 1 at 0" in "".join(root.itertext())


def test_the_density_integrates_to_what_is_there() -> None:
    logs = np.random.default_rng(0).normal(-3, 0.7, 2000)
    at, density = log_density(logs)
    middle = (at * density).sum() / density.sum()
    assert middle == pytest.approx(-3, abs=0.1)
    exact = np.exp(-0.5 * ((at + 3) / 0.7) ** 2)
    assert np.abs(density / density.max() - exact).max() < 0.15


def test_equal_scores_have_a_violin() -> None:
    assert "polygon" in violins({"layer": {"0e": [0.5, 0.5, 0.5]}})


def test_nothing_to_draw() -> None:
    assert heat_map({"layer": {"0e": [0.0]}}) == ""
    assert violins({}) == ""


def test_the_section_says_what_was_measured() -> None:
    found = Importance(
        criterion="energy-force",
        blocks=BLOCKS,
        layers={"layer 0": 1.5, "layer 1": None},
        elements={f"E{i}": float(i) for i in range(30)},
        structures=12,
        stability=0.8125,
    )
    page = render(Report("t", ("model",), (), importance=found))
    for part in (
        "Importance by energy-force",
        "On 12 structures. Spearman's rank correlation between the two halves of them is 0.812.",
        "1.500e+00",
        "The first 20 of 30.",
    ):
        assert part in page
    assert page.index("E29") < page.index("E28")
    assert "E9<" not in page
    silent = Importance("random", BLOCKS)
    assert "It looks at no structures." in render(Report("t", ("m",), (), importance=silent))
