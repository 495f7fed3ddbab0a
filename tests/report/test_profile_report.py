"""The profile in a report: every op, the numbers of the JSON, bars on one scale, nothing unescaped."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console

from irprune.cli.profile_report import build_report, names_of, print_profile
from irprune.report.html import render
from irprune.report.model import Report
from irprune.report.profile import Group, Times, cells, groups, told, verdict
from irprune.report.svg import time_bars


def node(name, op, forward, backward, flops=2e6, size=3e6, share=0.25):
    return {
        "node": name, "op": op, "forward": forward, "backward": backward, "flops": flops,
        "bytes": size, "least": share * forward, "share_of_peak": share,
    }  # fmt: skip


def one(model, call, *nodes):
    """A profile as JSON, of nodes that have an op each."""
    inside = sum(n["forward"] + n["backward"] for n in nodes)
    by_op = [
        {**{k: v for k, v in n.items() if k not in ("node", "least")}, "nodes": 1} for n in nodes
    ]
    return {
        "model": model, "atoms": 64, "edges": 3000, "threads": 1, "dtype": "float32",
        "peak_flops": 80e9, "peak_bandwidth": 17e9, "seconds_call": call,
        "seconds_neighbours": 0.002, "seconds_nodes": inside, "seconds_outside": call - inside,
        "seconds_estimated": 0.4 * call,
        "by_op": by_op, "nodes": list(nodes),
    }  # fmt: skip


STOCK = one(
    "m/stock.pth", 0.200, node("tp<1>", "tensor-product", 0.0501, 0.1002),
    node("lin", "linear", 0.010, 0.012), node("a", "tiny", 1e-4, 0.0), node("b", "small", 2e-4, 0.0),
)  # fmt: skip
FAST = one(
    "m/fast.irp",
    0.020,
    node("conv", "convolution", 0.003, 0.007),
    node("lin", "linear", 0.004, 0.002),
)
SINGLE = {**STOCK, "structure": "MgO", "other": None, "ratio": None, "ratios": []}
BOTH = {**STOCK, "structure": "MgO", "other": FAST, "ratio": 0.1, "ratios": [0.09, 0.1, 0.12]}


def test_cells():
    assert cells(STOCK["by_op"][0], 0.2) == ["50.10", "100.20", "75.1", "2.0", "3.00", "25"]


@pytest.mark.parametrize("payload", [SINGLE, BOTH])
def test_the_page_has_every_op_and_the_numbers_of_the_json(payload):
    page = render(build_report(payload, top=20))
    for profile in filter(None, (payload, payload["other"])):
        for title, rows in (("op", profile["by_op"]), ("node", profile["nodes"])):
            for row in rows:
                name = row[title].replace("<", "&lt;").replace(">", "&gt;")
                line = f"<tr><td>{name}</td>" + "".join(
                    f"<td class=n>{c}</td>" for c in cells(row, profile["seconds_call"])
                )
                assert line in page
        assert f"outside nodes, {profile['seconds_outside'] * 1e3:.2f} ms</td>" in page
    assert "tp<1>" not in page
    assert ("0.100 of the time" in page) == (payload is BOTH)
    for part in ("MgO", "64", "3,000", "float32", "GFLOP/s", ">80<", ">17<"):
        assert part in page


def test_names_and_ops_are_escaped_everywhere():
    bad = one("<b>&model", 0.1, node("<i>node", "<u>op", 0.02, 0.03))
    payload = {
        **bad,
        "structure": "<s>",
        "other": {**bad, "model": "<em>"},
        "ratio": 1.0,
        "ratios": [1.0],
    }
    page = render(build_report(payload, top=5))
    assert not re.search(r"<(b|i|u|s|em)>", page)
    for part in ("&lt;b&gt;&amp;model", "&lt;i&gt;node", "&lt;u&gt;op", "&lt;s&gt;", "&lt;em&gt;"):
        assert part in page


def test_top_limits_nodes_and_not_ops():
    page = render(build_report(SINGLE, top=1))
    assert "The slowest 1 of 4." in page
    assert "<td>lin</td>" not in page
    assert "<td>linear</td>" in page


def test_bars_add_up_to_the_call():
    made = groups([STOCK, FAST])
    assert [g.label for g in made] == [
        "tensor-product", "linear", "convolution", "2 other ops", "outside nodes",
    ]  # fmt: skip
    for i, profile in enumerate((STOCK, FAST)):
        total = sum(g.bars[i].total for g in made if g.bars[i] is not None)
        assert total == pytest.approx(profile["seconds_call"])
    assert made[0].bars[1] is None
    assert made[3].bars == (Times(1e-4 + 2e-4, 0.0), None)


def test_nodes_that_take_longer_than_the_call_leave_nothing_outside():
    slow = one("slow", 0.01, node("n", "linear", 0.02, 0.0))
    assert groups([slow])[-1] == Group("outside nodes", (None,))
    page = render(
        build_report({**slow, "structure": "Si", "other": None, "ratio": None, "ratios": []}, 5)
    )
    assert "The nodes of slow, each timed by itself" in page
    assert "-10.00 ms" in page
    assert "each timed by itself with" not in render(build_report(SINGLE, 5))


def test_bars_of_both_models_have_one_scale():
    picture = time_bars(groups([STOCK, FAST]), ["stock", "fast"], [0.2, 0.02])
    found = {}
    for rect in ElementTree.fromstring(picture).iter("rect"):
        assert rect[0].text is not None
        found[rect[0].text.partition(" ms")[0]] = (
            rect.attrib["class"],
            float(rect.attrib["width"]),
        )
    stock = found["tensor-product, stock: forward 50.10"]
    fast = found["convolution, fast: backward 7.00"]
    assert (stock[0], fast[0]) == ("forward", "backward")
    assert stock[1] / fast[1] == pytest.approx(50.1 / 7.0, rel=0.01)
    assert found["outside nodes, fast: outside 4.00"][0] == "outside"
    assert "75.1 %" in picture


def test_told_and_verdict():
    assert told(STOCK) == (
        "64 atoms, 3000 edges, 1 thread, float32: one call 200.00 ms, of which nodes 172.60 ms and"
        " outside nodes 27.40 ms; neighbour list 2.00 ms beside it; estimated by the cost model 80.00"
        " ms",
        "peaks of this machine: 80.0 GFLOP/s (matrix product), 17.0 GB/s (copy)",
    )
    assert verdict(("stock", "fast"), [0.12, 0.09, 0.1]) == (
        "a call of fast takes 0.100 of the time of one of stock (3 rounds in turn, 0.090 to 0.120)"
    )


def test_the_terminal_shows_both():
    out = io.StringIO()
    print_profile(Console(file=out, width=120, highlight=False, markup=False), BOTH, top=1)
    lines = out.getvalue().splitlines()
    linear = next(line.split() for line in lines if line.startswith("linear"))
    assert linear == ["linear", "22.00", "11.0", "25", "6.00", "30.0", "25"]
    assert any("tensor-product" in line and line.split()[-3:] == ["–"] * 3 for line in lines)
    assert any(line.startswith("fast.irp: 64 atoms") for line in lines)
    assert "takes 0.100 of the time of one of stock.pth" in " ".join(lines)


def test_models_with_equal_file_names_keep_their_folders():
    assert names_of(BOTH) == ("stock.pth", "fast.irp")
    assert names_of({**BOTH, "other": {**FAST, "model": "n/stock.pth"}}) == (
        "m/stock.pth",
        "n/stock.pth",
    )


def test_profiles_must_fit_the_models():
    report = build_report(BOTH, 5)
    with pytest.raises(ValueError, match="2 profiles for 1 models"):
        replace(report, models=("a",), rows=())
    assert "Where the time goes" not in render(Report("t", ("a",), ()))
