"""Pictures as SVG: well-formed, escaped, stripes as long as their channels."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from irprune.picture.layout import lay_out
from irprune.picture.model import Group, Stripe, Value
from irprune.picture.svg import picture_svg
from irprune.picture.words import irreps_text, named, said, title_of

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "\"><script>alert(1)</script>&'"
VALUES = (
    Value("x", "input", "input", "x", "layer 0", "node[4x0e]", (Stripe("0e", 4, 4),)),
    Value(
        "mix", "module", "linear", f"a.{EVIL}", "layer 0", "node[8x0e+2x1o]",
        (Stripe("0e", 8, 8), Stripe("1o", 2, 4)), params=48, flops=96.0, reads=("x",),
        groups=(f"{EVIL}:0e",),
    ),
    Value("idx", "input", "input", "idx", "layer 0", "index[node]"),
    Value(
        EVIL, "function", "add", "operator.add", "readout", "node[8x0e]", (Stripe("0e", 8, 8),),
        reads=("mix",), frozen="graph output <b>",
    ),
)  # fmt: skip
GROUPS = (Group(f"{EVIL}:0e", "channel", "0e", 8, 8, ("mix",)),)


@pytest.fixture
def root():
    picture = lay_out(VALUES, GROUPS, {"mix": "layer 0"}, f"half {EVIL}")
    return ElementTree.fromstring(picture_svg([picture], f"model {EVIL}"))


def nodes(root):
    return {
        g.attrib["data-n"]: g for g in root.iter(f"{SVG}g") if "node" in g.get("class", "").split()
    }


def test_every_node_is_drawn_once(root):
    found = [g for g in root.iter(f"{SVG}g") if "node" in g.get("class", "").split()]
    assert [g.attrib["data-n"] for g in found] == [v.name for v in VALUES]


def test_names_of_modules_are_text_and_nothing_else(root):
    assert not list(root.iter(f"{SVG}script"))
    title = nodes(root)["mix"].find(f"{SVG}title").text
    assert f"linear {{a.{EVIL}}}" in title
    assert EVIL in nodes(root)
    picture = lay_out(VALUES, GROUPS, {"mix": "layer 0"}, EVIL)
    assert "<script" not in picture_svg([picture], EVIL)


def test_stripes_are_as_long_as_their_channels(root):
    stripes = {
        r.attrib["class"]: float(r.attrib["width"]) for r in nodes(root)["mix"].iter(f"{SVG}rect")
    }
    assert stripes["l0"] == pytest.approx(4 * stripes["l1"], rel=0.02)
    assert stripes["l1 went"] == pytest.approx(2 * stripes["l1"], rel=0.02)
    assert "l0 went" not in stripes


def test_it_needs_nothing_from_outside(root):
    picture = lay_out(VALUES, GROUPS)
    text = picture_svg([picture, picture], "two").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|@import|url\(|href", text)


def test_values_without_irreps_are_dots(root):
    assert "dot" in nodes(root)["idx"].attrib["class"]
    assert "frozen" in nodes(root)[EVIL].attrib["class"]
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert "without irreps" in texts
    assert texts.count("layer 0") == 2, "a band, and the port of the next one"


def test_words():
    mix = VALUES[1]
    assert irreps_text(mix) == "8x0e+2x1o"
    assert irreps_text(VALUES[0]) == "4x0e"
    equal = Value("t", "module", "x", "", "", "", (Stripe("0e", 8, 8), Stripe("1o", 8, 8)))
    assert irreps_text(equal) == "8x(0e+1o)"
    assert (
        irreps_text(Value("t", "module", "x", "", "", "", (Stripe("0e", 0, 8),))) == "nothing left"
    )
    assert said(mix, "params") == "48 params"
    assert said(mix, "flops") == "96 FLOPs"
    assert said(mix, "score") == ""
    assert named(VALUES[0]) == "x"
    assert title_of(mix).splitlines()[2] == "blocks: 8 0e, 2 of 4 1o"
