"""The sections of a page, the tree of a terminal, the notebook: the same picture says the same."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

import irprune
from irprune.cli import main as cli
from irprune.debugging.changes import MOST, ChangeLog
from irprune.picture.build import picture_of, pictures_of
from irprune.picture.page import picture_section, treemap_section
from irprune.picture.tree import tree_of
from irprune.report.html import render
from irprune.report.model import Report
from irprune.slicing import slice_graph
from tests.handmade import without
from tests.passes.golden_networks import network
from tests.picture.test_svg import EVIL, GROUPS, VALUES, lay_out

pytestmark = pytest.mark.usefixtures("unscripted")


@pytest.fixture(scope="module")
def chain():
    return network("chain").replace(labels={"layer 0": "a", "layer 1": "b"})


@pytest.fixture(scope="module")
def sliced(chain):
    return slice_graph(without(chain, {"a:0e": [1, 2], "a:1o": [0, 1, 2], "b:0e": [0]}))


@pytest.fixture(scope="module")
def files(chain, sliced, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    for name, graph in (("big", chain), ("small", sliced)):
        graph.save(str(folder / f"{name}.irp"))
    return folder


class Page(HTMLParser):
    """Tags in order, attributes of each, and what is text."""

    void = ("meta", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)

    def count(self, tag: str) -> int:
        return sum(t == tag for t, _ in self.tags)


def test_page_is_one_file_with_one_script(chain, sliced):
    text = render(Report("t", ("a",), (), pictures=pictures_of(chain, sliced)))
    page = Page(text)
    assert page.count("script") == 1
    assert not {"link", "img", "iframe"} & {t for t, _ in page.tags}
    assert not any(k in ("src", "href") for _, attrs in page.tags for k in attrs)
    assert not re.search(r"https?:|@import|url\(", text)


def test_without_pictures_there_is_no_script():
    assert "<script" not in render(Report("t", ("a",), ()))
    assert picture_section(()) == ""
    assert treemap_section(()) == ""


def test_names_from_a_model_are_text_and_nothing_else():
    evil = lay_out(VALUES, GROUPS, {"mix": "layer 0"}, EVIL)
    text = render(Report(EVIL, ("a",), (), pictures=(evil, replace(evil, name="after"))))
    page = Page(text)
    assert page.count("script") == 1, "its own"
    assert any(EVIL in s for s in page.said)
    assert {a.get("data-n") for _, a in page.tags} >= {EVIL}


def test_groups_of_both_graphs_with_their_sizes(chain, sliced):
    said = "".join(Page(picture_section(pictures_of(chain, sliced))).said)
    assert "a:0e channel, 4 → 2" in said
    assert "a:1o channel, 3 → –" in said
    assert "b:0e channel, 5 → 4" in said


def test_choices_are_those_that_are_known(chain):
    def choices(picture):
        page = Page(picture_section([picture]) + treemap_section([picture]))
        return [a["value"] for t, a in page.tags if t == "input" and a.get("type") == "radio"]

    assert choices(picture_of(chain)) == ["irreps", "params", "flops", "params", "flops"]
    timed = picture_of(chain, times={"a": 1e-3})
    assert choices(timed) == ["irreps", "params", "flops", "time", "params", "flops", "time"]


def test_tree(chain, sliced):
    out = io.StringIO()
    picture = pictures_of(chain, sliced)[1]
    Console(file=out, width=160).print(tree_of(picture))
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("after: ")
    (a,) = (x for x in lines if re.search(r"[├└]── a  linear", x))
    assert "2x0e of 4+0x1o of 3" in a
    assert any(x.startswith("├── layer 0") for x in lines)
    for name in sliced.sites:
        assert any(re.search(rf"\b{name}\b", x) for x in lines)


def test_notebook(chain):
    text = chain._repr_html_()
    page = Page(text)
    assert page.count("svg") == 1
    assert "script" not in {t for t, _ in page.tags}
    nodes = [a["data-n"] for t, a in page.tags if t == "g" and "node" in (a.get("class") or "")]
    assert nodes == list(chain.sites)
    assert f"{chain.stats().params} parameters" in text


def test_what_passes_changed(chain):
    log = ChangeLog()
    graph, report = irprune.api.run_reported(
        "score{by=magnitude},select{keep=0.5},slice,verify", chain, observers=[log]
    )
    said = [c["summary"] for c in log.found]
    groups = sum(len(a.groups) for a in chain.axes())
    assert said[0] == "scored by magnitude"
    assert re.fullmatch(rf"\d+ of {groups} coupled groups selected to go", said[1])
    assert re.fullmatch(r"\d+ nodes changed", said[2])
    assert said[3] == "no change"
    assert any(x.startswith("~ %a: type node[4x0e+3x1o] → ") for x in log.found[2]["lines"])
    assert len(log.found) == len(report.passes) == 4
    assert all(len(c["lines"]) <= MOST + 1 for c in log.found)
    assert graph.gm is not chain.gm


def test_show_against_writes_page_and_svg(files, capsys):
    page, svg = files / "show.html", files / "show.svg"
    args = ["show", str(files / "big.irp"), "--against", str(files / "small.irp")]
    assert cli.run([*args, "--html", str(page), "--svg", str(svg), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == args[1]
    found = Page(page.read_text())
    assert found.count("figure") == 2
    said = "".join(found.said)
    assert "a:0e channel, 4 → 2" in said
    assert svg.read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg" class="irp"')


def test_show_tree_and_svg_of_one_model(files, capsys):
    svg = files / "one.svg"
    assert cli.run(["show", str(files / "big.irp"), "--tree", "--svg", str(svg)]) == 0
    assert re.search(r"├── layer 0 ", capsys.readouterr().out)
    assert len(re.findall(r'<g class="node [^"]*" data-n="a"', svg.read_text())) == 1


def test_run_writes_a_page_with_both_graphs_and_what_changed(files, capsys):
    page = files / "run.html"
    text = "score{by=magnitude},select{keep=0.5},slice"
    args = ["run", "-p", text, str(files / "big.irp"), "--html", str(page), "--json"]
    assert cli.run(args) == 0
    passes = json.loads(capsys.readouterr().out)["passes"]
    assert {"nodes", "nodes_before"} <= set(passes[0])
    found = Page(page.read_text())
    said = "".join(found.said)
    assert found.count("figure") == 2
    assert "scored by magnitude" in said
    assert "~ %a: type node[4x0e+3x1o]" in said
    assert f"{passes[2]['params_before']:,} → {passes[2]['params']:,}" in said
