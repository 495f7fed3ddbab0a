"""Treemaps: areas are in proportion to values, fill the rectangle, and do not overlap."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irprune.picture.layout import lay_out
from irprune.picture.model import Rect, Stripe, Value
from irprune.picture.treemap import squarified, treemap_of
from irprune.picture.treemap_svg import amount, treemaps_svg

EVIL = "<script>alert('&')</script>"


def picture(*params: int, name: str = ""):
    """A chain of linear maps with so many parameters, three in a layer."""
    values = [
        Value(
            f"n{i}", "module", EVIL if i % 2 else "linear", f"m{i}", f"layer {i // 3}",
            "node[1x0e]", (Stripe("0e", 1, 1),), params=p, flops=2.0 * p,
        )
        for i, p in enumerate(params)
    ]  # fmt: skip
    return lay_out(values, name=name)


values = st.dictionaries(st.text(min_size=1, max_size=4), st.floats(1e-3, 1e6), min_size=1)


@given(values, st.floats(10, 900), st.floats(10, 900))
def test_areas_are_in_proportion_and_fill_the_rectangle(found, width, height):
    rects = squarified(found, Rect(0, 0, width, height))
    assert set(rects) == set(found)
    total = sum(found.values())
    for name, r in rects.items():
        assert r.width * r.height / (width * height) == pytest.approx(
            found[name] / total, rel=1e-6, abs=1e-9
        )
        assert r.x >= -1e-6
        assert r.y >= -1e-6
        assert r.right <= width + 1e-6
        assert r.bottom <= height + 1e-6
    small = [Rect(r.x + 1e-6, r.y + 1e-6, r.width - 2e-6, r.height - 2e-6) for r in rects.values()]
    small = [r for r in small if r.width > 0 and r.height > 0]
    assert not any(a.overlaps(b) for i, a in enumerate(small) for b in small[i + 1 :])


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12))
def test_tiles_sum_to_the_total_and_lie_in_their_layer(params):
    p = picture(*params)
    found = treemap_of(p, "params", 300, 200)
    assert found.total == p.total("params") == sum(params)
    assert {t.name for t in found.nodes} == {f"n{i}" for i, v in enumerate(params) if v}
    around = {t.name: t for t in found.layers}
    area = sum(t.rect.width * t.rect.height for t in found.nodes)
    assert area == pytest.approx(300 * 200 if sum(params) else 0)
    for t in found.nodes:
        outer = around[t.layer].rect
        assert outer.x - 1e-6 <= t.rect.x
        assert t.rect.right <= outer.right + 1e-6
    for layer in found.layers:
        assert layer.value == sum(t.value for t in found.nodes if t.layer == layer.name)


def test_squares_where_squares_are_possible():
    rects = squarified(dict.fromkeys("abcd", 1.0), Rect(0, 0, 20, 20))
    assert {(r.width, r.height) for r in rects.values()} == {(10.0, 10.0)}


def test_nothing_to_show():
    assert squarified({}, Rect(0, 0, 1, 1)) == {}
    assert treemaps_svg([picture(0, 0)], "params") == ""


def test_two_models_on_one_scale_of_area():
    text = treemaps_svg([picture(400, name="before"), picture(100, name="after")], "params")
    root = ElementTree.fromstring(f"<a>{text}</a>")
    tiles = [r for g in root.iter("g") if g.get("class") == "tile" for r in g.iter("rect")]
    areas = [float(r.attrib["width"]) * float(r.attrib["height"]) for r in tiles]
    assert areas[0] == pytest.approx(4 * areas[1], rel=1e-3)
    texts = [t.text for t in root.iter("text")]
    assert "before: 400 parameters" in texts
    assert "after: 100 parameters ×0.25" in texts


def test_times_have_their_unit():
    assert amount(2.7203, "time") == "2,720 ms"
    assert amount(2e-6, "time") == "0.002 ms"
    assert amount(1234567.0, "params") == "1,234,567 parameters"
    assert amount(2.5e9, "flops") == "2.5 G FLOPs per atom"


def test_names_are_escaped():
    text = treemaps_svg([picture(3, 2, 1)], "flops")
    assert "<script" not in text
    assert EVIL in {
        t.text.split(": ")[1].split(" in ")[0]
        for t in ElementTree.fromstring(f"<a>{text}</a>").iter("title")
    }
