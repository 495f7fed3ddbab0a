"""The report: one file that needs nothing else, and says what its data say."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from irprune.report.html import render, write
from irprune.report.model import Report, Row, number, ratio
from irprune.report.svg import curve, irreps_bars, score_strips
from irprune.report.terminal import print_report

BEFORE = {"layer 0": "128x0e+64x1e+32x2e", "layer 1": "128x0e"}
AFTER = {"layer 0": "64x0e+20x1e", "layer 1": "40x0e"}


def a_report() -> Report:
    return Report(
        title="7net-0 & <half>",
        models=("original", "pruned", "recovered"),
        rows=(
            Row("parameters", "", (842440, 300000, 300000), compare=True),
            Row("force error", "eV/Å", (None, 0.31, 0.045)),
        ),
        irreps=(BEFORE, AFTER),
        irreps_names=("before", "after"),
        scores={"layer 0": {"0e": [1e-3, 0.2, 0.0], "1e": [3e-5]}},
        kept={"layer 0": {"0e": [False, True, False], "1e": [True]}},
        curve=((0, 1.0), (10, 0.1), (20, 0.03)),
        checks=(
            {"name": "rotation", "value": 3e-6, "tolerance": 5e-4, "ok": True},
            {"name": "reload", "value": 2e-2, "tolerance": 1e-5, "ok": False},
        ),
        passes=(
            {
                "text": "select{keep=0.5}",
                "trait": "exact",
                "params": 300000,
                "flops_per_atom": 1.5e9,
                "blocks": 500,
                "seconds": 0.1,
            },
        ),
        pipeline="select{keep=0.5}",
        tier="config-native",
        versions={"torch": "2.13.0"},
    )


class Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta",):
            self.open.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        assert tag not in ("script", "link", "img", "iframe")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_self_contained_and_well_formed() -> None:
    page = render(a_report())
    reader = Collector()
    reader.feed(page)
    assert reader.open == []
    assert reader.links == []
    assert not re.search(r"https?:|@import|url\(", page)


def test_page_says_what_the_data_say() -> None:
    page = render(a_report())
    for part in (
        "7net-0 &amp; &lt;half&gt;",
        "842,440",
        "300,000",
        "×0.356",
        "0.045",
        "64x0e",
        "1 of 2 checks failed",
        "2.00e-02",
        "select{keep=0.5}",
        "config-native",
        "1.5 G",
    ):
        assert part in page
    good = replace(a_report(), checks=a_report().checks[:1])
    assert "All 1 checks passed" in render(good)


def test_empty_sections_do_not_appear() -> None:
    page = render(Report("t", ("original",), ()))
    assert "<h2>" not in page


def test_pictures_are_xml() -> None:
    for picture in (
        irreps_bars([BEFORE, AFTER], ["before", "after"]),
        score_strips(a_report().scores, a_report().kept),
        curve(a_report().curve),
    ):
        ElementTree.fromstring(picture)


def test_bars_are_as_wide_as_their_components() -> None:
    root = ElementTree.fromstring(irreps_bars([BEFORE, AFTER], ["before", "after"]))
    widths = {r[0].text: float(r.attrib["width"]) + 1 for r in root.iter("rect")}
    w = {text.split(": ")[1].split(",")[0]: width for text, width in widths.items() if text}
    assert w["64x1e"] / w["32x2e"] == pytest.approx(192 / 160, rel=0.01)
    assert {r.attrib["class"] for r in root.iter("rect")} == {"l0", "l1", "l2"}


def test_strips_order_blocks_by_score_and_fade_removed_ones() -> None:
    root = ElementTree.fromstring(score_strips(a_report().scores, a_report().kept))
    dots = [(float(c.attrib["cx"]), c.attrib["class"]) for c in root.iter("circle")]
    assert [d[1] for d in dots] == ["l0 removed", "l0 removed", "l0 kept", "l1 kept"]
    assert dots[0][0] <= dots[1][0] < dots[2][0]


def test_many_blocks_stay_a_small_page() -> None:
    scores = {"layer": {"0e": [10.0**-k for k in range(1, 9)] * 1000}}
    assert len(score_strips(scores, {})) < 100_000


def test_curve_needs_two_points_to_be_drawn() -> None:
    assert curve([(0, 1.0)]) == ""
    assert curve([(0, 1.0), (1, float("nan"))]) == ""


def test_terminal_shows_the_same() -> None:
    out = io.StringIO()
    print_report(a_report(), Console(file=out, width=140))
    for part in ("842,440", "×0.356", "0.045", "FAILED", "64x0e+20x1e", "config-native"):
        assert part in out.getvalue()


def test_numbers() -> None:
    assert [number(v) for v in (None, 0.0, 1234567, 2.5e9, 0.04567, 3.2e-7)] == [
        "–",
        "0",
        "1,234,567",
        "2.5 G",
        "0.04567",
        "3.20e-07",
    ]
    assert ratio(50, 100) == "×0.5"
    assert ratio(50, None) == ratio(None, 3) == ratio(3, 0) == ""


def test_a_row_must_fit_the_models() -> None:
    with pytest.raises(ValueError, match="has 1 values for 2 models"):
        Report("t", ("a", "b"), (Row("x", "", (1.0,)),))


def test_write_replaces_whole_files_only(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    broken = replace(a_report(), irreps=({"layer 0": "not irreps"},))
    with pytest.raises(Exception, match="cannot read irreps"):
        write(broken, path)
    assert path.read_text() == "old"
    write(a_report(), path)
    assert "7net-0" in path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_browser_shows_the_page(tmp_path: Path) -> None:
    path = write(a_report(), tmp_path / "report.html")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    shown = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "842,440" in shown.stdout
    assert shown.stdout.count("<circle") == 4
