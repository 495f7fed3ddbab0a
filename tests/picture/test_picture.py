"""The picture of a graph: every node once, its types, costs, groups; before and after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import irprune
from irprune.importance import layer_of_axes
from irprune.picture.build import picture_of, pictures_of
from irprune.picture.layout import COLUMNS, lay_out
from irprune.picture.model import Picture, Stripe, Value
from irprune.picture.words import blocks_text, irreps_text, title_of
from irprune.scores import Scores
from irprune.slicing import slice_graph
from tests.handmade import axis, without
from tests.passes.golden_networks import network
from tests.test_text import INPUTS, Layer

pytestmark = pytest.mark.usefixtures("unscripted")


@pytest.fixture(scope="module")
def layer():
    graph = irprune.trace(Layer().double(), INPUTS)
    return graph.replace(labels={"layer 0": "gate"})


@pytest.fixture(scope="module")
def chain():
    return network("chain").replace(labels={"layer 0": "a", "layer 1": "b"})


@pytest.fixture(scope="module")
def removed(chain):
    return without(chain, {"a:0e": [1, 2], "a:1o": [0, 1, 2], "b:0e": [0]})


def listed(p: Picture) -> str:
    """A picture as text: bands, boxes, ports and edges with their places."""
    lines = [f"picture {p.width:g} x {p.height:g}"]
    for b in p.bands:
        lines.append(f"band {b.label}: y {b.rect.y:g}, height {b.rect.height:g}, {b.params} params")
    for box in p.boxes:
        v, r = box.value, box.rect
        lines.append(
            f"{box.band} {v.name}: {r.x:g},{r.y:g} {r.width:g}x{r.height:g}"
            f" {v.op} {irreps_text(v) if v.stripes else '-'} {v.params} params {v.flops:g} FLOPs"
            + "".join(f" {m}" for m in ("frozen", "why", "plain") if getattr(v, m))
            + (f" [{', '.join(v.groups)}]" if v.groups else "")
        )
    lines += [f"port {q.label}: {q.rect.x:g},{q.rect.y:g}" for q in p.ports]
    for e in p.edges:
        way = " ".join(f"{x:g},{y:g}" for x, y in e.points)
        lines.append(f"edge {e.source} {e.target}{' between' if e.between else ''}: {way}")
    return "\n".join(lines)


def test_layout(layer, golden):
    golden("pictures/layer.txt", listed(picture_of(layer)))


def test_every_node_once_with_its_cost(layer):
    p = picture_of(layer)
    assert [b.value.name for b in p.boxes] == list(layer.sites)
    stats = layer.stats()
    assert p.total("params") == stats.params == sum(b.params for b in p.bands)
    assert p.total("flops") == pytest.approx(stats.flops_per_atom)


def test_layers_hold_what_importance_says_they_hold(chain):
    p = picture_of(chain)
    by_name = {b.value.name: b.value.layer for b in p.boxes}
    for name, where in layer_of_axes(chain).items():
        assert by_name[axis(chain, name).node] == where


def test_barriers_and_frozen_values_say_why(layer):
    values = {b.value.name: b.value for b in picture_of(layer).boxes}
    assert "no OpDef" in values["flip"].why
    assert not values["flip"].plain
    assert values["x"].frozen == "graph input (x (x))"
    assert "frozen: graph input" in title_of(values["x"])
    assert values["mix"].groups == ("skip:0e", "skip:1o")
    assert values["edge_src"].plain


def test_selected_blocks_are_shown_as_gone(removed):
    a = {b.value.name: b.value for b in picture_of(removed).boxes}["a"]
    assert blocks_text(a) == "2 of 4 0e, 0 of 3 1o"
    assert irreps_text(a) == "2x0e"
    groups = {g.name: (g.kept, g.size) for g in picture_of(removed).groups}
    assert groups["a:0e"] == (2, 4)


def test_before_and_after(chain, removed):
    one, two = pictures_of(chain, slice_graph(removed))
    assert (one.name, two.name) == ("before", "after")
    first, second = ({b.value.name: b.value for b in p.boxes} for p in (one, two))
    assert blocks_text(first["a"]) == "4 0e, 3 1o"
    assert blocks_text(second["a"]) == "2 of 4 0e, 0 of 3 1o"
    assert first["a"].state == second["a"].state == "changed"
    assert [b.rect.y for b in one.bands] == [b.rect.y for b in two.bands]
    assert [b.rect.height for b in one.bands] == [b.rect.height for b in two.bands]


def test_nodes_that_went_and_came():
    before = network("small")
    one, two = pictures_of(before, irprune.run("fuse-conv", before))
    gone = {b.value.name for b in one.boxes if b.value.state == "gone"}
    new = {b.value.op for b in two.boxes if b.value.state == "new"}
    assert gone == {"getitem_1", "tp", "message_gather"}
    assert new == {"convolution", "edge-lists"}


def test_scores_and_times(chain):
    values = np.full(chain.blocks.n_classes, np.nan)
    values[list(axis(chain, "a:0e").groups)] = 2.0
    scored = chain.replace(scores=Scores(values, "magnitude"))
    p = picture_of(scored, times={"b": 0.5})
    found = {b.value.name: b.value for b in p.boxes}
    assert found["a"].score == 8.0
    assert found["b"].seconds == 0.5
    assert p.measures == ("irreps", "params", "flops", "score", "time")
    assert picture_of(chain).measures == ("irreps", "params", "flops")
    assert "importance: 8.000e+00" in title_of(found["a"])
    assert "time: 500 ms" in title_of(found["b"])


@st.composite
def graphs(draw) -> list[Value]:
    """Random nodes in up to three layers, with and without irreps."""
    names: list[str] = []
    out = []
    layer = 0
    for i in range(draw(st.integers(1, 40))):
        layer = min(layer + draw(st.sampled_from((0, 0, 0, 0, 0, 1))), 2)
        reads = draw(st.sets(st.sampled_from(names), max_size=3)) if names else set()
        v = Value(f"n{i}", "module", "linear", f"m.{i}", f"layer {layer}", "node[1x0e]")
        stripes = () if draw(st.booleans()) else (Stripe("0e", 1, 1),)
        out.append(replace(v, stripes=stripes, reads=tuple(sorted(reads))))
        names.append(f"n{i}")
    return out


@given(graphs(), st.integers(1, COLUMNS))
def test_any_graph_is_laid_out_without_overlaps(values, columns):
    p = lay_out(values, columns=columns)
    assert [b.value for b in p.boxes] == values
    rects = [b.rect for b in p.boxes] + [q.rect for q in p.ports]
    for i, r in enumerate(rects):
        assert not any(r.overlaps(other) for other in rects[i + 1 :])
    for b in p.boxes:
        band = p.bands[b.band].rect
        assert band.y <= b.rect.y
        assert b.rect.bottom <= band.bottom
        assert b.rect.right <= p.width
    drawn = {(e.source, e.target) for e in p.edges if not e.between}
    plain = {v.name for v in values if v.plain}
    want = {(r, v.name) for v in values for r in v.reads if not {r, v.name} & plain}
    assert drawn == want
