"""Columns and lanes: what is read stands to the left, nothing lies on top of anything else."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from irprune.picture.layers import READOUT, SHARED, WHOLE, band_of, ends_of, in_order, layers_of
from irprune.picture.place import Item, place


@st.composite
def dags(draw) -> list[Item]:
    """Random items, each reading up to three of those before it."""
    n = draw(st.integers(1, 18))
    items = []
    for i in range(n):
        reads = draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set()
        size = draw(st.sampled_from(((124.0, 50.0), (72.0, 30.0))))
        items.append(Item(f"n{i}", *size, tuple(f"n{r}" for r in sorted(reads))))
    return items


@given(dags())
def test_every_item_once_and_apart(items):
    strip = place(items)
    assert list(strip.rects) == [i.name for i in items]
    rects = list(strip.rects.values())
    for k, a in enumerate(rects):
        assert a.x >= 0
        assert a.right <= strip.width
        assert a.bottom <= strip.height
        assert not any(a.overlaps(b) for b in rects[k + 1 :])


@given(dags())
def test_what_is_read_stands_to_the_left_and_edges_go_right(items):
    strip = place(items)
    for i in items:
        for r in i.reads:
            assert strip.columns[r] < strip.columns[i.name]
            points = strip.route(r, i.name)
            assert points[0] == (strip.rects[r].right, strip.rects[r].middle)
            assert points[-1] == (strip.rects[i.name].x, strip.rects[i.name].middle)
            assert all(a[0] <= b[0] for a, b in pairwise(points))


@given(dags())
def test_edges_run_through_no_box(items):
    """Where an edge runs level over whole columns, no box is in its way."""
    strip = place(items)
    for i in items:
        for r in i.reads:
            points = strip.route(r, i.name)
            for (x, y), (to, level) in pairwise(points):
                if y != level or to - x < 60:
                    continue
                for name, box in strip.rects.items():
                    if name not in (r, i.name) and box.x < to and x < box.right:
                        assert not box.y < y < box.bottom


@given(dags())
def test_the_end_is_in_the_first_lane(items):
    end = items[-1].name
    assert place(items, end).lanes[end] == 0


def test_a_side_input_stands_next_to_its_reader():
    chain = [Item("a", 10, 10), Item("b", 10, 10, ("a",)), Item("c", 10, 10, ("b",))]
    strip = place([*chain, Item("side", 10, 10), Item("d", 10, 10, ("c", "side"))])
    assert strip.columns["side"] == 2
    assert strip.lanes == {"a": 0, "b": 0, "c": 0, "side": 1, "d": 0}


READS = {
    "edges": (),
    "onehot": (),
    "embed": ("onehot",),
    "radial0": ("edges",),
    "conv0": ("embed", "radial0"),
    "skip0": ("embed",),
    "gate0": ("conv0",),
    "add0": ("gate0", "skip0"),
    "radial1": ("edges",),
    "conv1": ("add0", "radial1"),
    "early": ("add0",),
    "read": ("conv1", "early"),
}
LABELS = {"embedding": "embed", "layer 1 hidden": "gate0", "layer 2 hidden": "conv1", "x": "gone"}


def test_layers_by_what_a_node_leads_to():
    ends = ends_of(READS, LABELS, {"add0"})
    assert ends == {"embed": "embedding", "add0": "layer 1", "conv1": "layer 2"}
    found = layers_of(READS, ends)
    assert found == {
        "edges": SHARED, "onehot": "embedding", "embed": "embedding",
        "radial0": "layer 1", "conv0": "layer 1", "skip0": "layer 1", "gate0": "layer 1",
        "add0": "layer 1", "radial1": "layer 2", "conv1": "layer 2",
        "early": READOUT, "read": READOUT,
    }  # fmt: skip
    assert in_order(found) == ["embedding", "layer 1", "layer 2", "readout"]


def test_the_end_of_a_layer_goes_on_through_functions_only():
    assert ends_of(READS, LABELS, set())["gate0"] == "layer 1"


def test_a_graph_without_labels_is_one_layer():
    assert set(layers_of(READS, {}).values()) == {WHOLE}


def test_two_values_of_one_layer():
    assert band_of("layer 12 message") == band_of("layer 12 hidden") == "layer 12"
    assert band_of("embedding") == "embedding"
