"""The page in headless Chromium: it opens, says what it should on hovering, and its switches work.

Needs Debian's packages ``chromium`` and ``chromium-driver``; nothing is downloaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irprune.picture.build import pictures_of
from irprune.picture.layout import lay_out
from irprune.report.html import write
from irprune.report.model import Report
from irprune.scores import Scores
from irprune.slicing import slice_graph
from tests.handmade import without
from tests.passes.golden_networks import network
from tests.picture.test_svg import EVIL, GROUPS, VALUES

PROGRAMS = [shutil.which("chromium"), shutil.which("chromedriver")]
DARK, LIGHT = "rgb(21, 23, 26)", "rgb(251, 251, 249)"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("unscripted"),
    pytest.mark.skipif(None in PROGRAMS, reason="no chromium and chromedriver on this machine"),
]


@pytest.fixture(scope="module")
def page(unscripted, tmp_path_factory) -> Path:
    chain = network("chain").replace(labels={"layer 0": "a", "layer 1": "b"})
    values = np.arange(1.0, chain.blocks.n_classes + 1)
    chain = chain.replace(scores=Scores(values, "magnitude"))
    small = slice_graph(without(chain, {"a:0e": [1, 2], "a:1o": [0, 1, 2], "b:0e": [0]}))
    pictures = pictures_of(chain, small, times=({"a": 2e-3, "b": 1e-3}, {"a": 1e-3}))
    folder = tmp_path_factory.mktemp("page")
    return write(Report("chain", ("a",), (), pictures=pictures), folder / "page.html")


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(PROGRAMS[0])
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1500,1100")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=str(PROGRAMS[1]))
    found = webdriver.Chrome(options=options, service=service)
    yield found
    found.quit()


@pytest.fixture
def opened(driver, page) -> Any:
    return show(driver, page)


def show(driver: Any, page: Path) -> Any:
    driver.get_log("browser")
    driver.get(page.as_uri())
    return driver


def all_of(driver: Any, css: str) -> list[Any]:
    return driver.find_elements("css selector", css)


def one(driver: Any, css: str) -> Any:
    return driver.find_element("css selector", css)


def hover(driver: Any, css: str) -> str:
    """Points at an element and gives what the page then says."""
    from selenium.webdriver import ActionChains

    element = one(driver, css)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(driver).move_to_element(element).perform()
    return one(driver, ".irp-tip").text


def choose(driver: Any, css: str) -> None:
    element = one(driver, css)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def shown(driver: Any, css: str) -> list[str]:
    """The texts of the elements that can be seen."""
    return [e.text for e in all_of(driver, css) if e.is_displayed()]


def test_it_opens_without_a_word_in_the_console(opened):
    assert opened.title == "chain"
    assert opened.get_log("browser") == []
    loaded = "return performance.getEntriesByType('resource').map(e => e.name)"
    assert opened.execute_script(loaded) == []


def test_hovering_says_what_a_node_is(opened):
    text = hover(opened, 'figure:nth-of-type(2) .node[data-n="a"] .frame')
    assert text.startswith("%a : node[2x0e]\nlinear {a}\nblocks: 2 of 4 0e, 0 of 3 1o")
    for part in ("parameters: ", "FLOPs per atom: ", "time: 1 ms", "reads: x"):
        assert part in text
    near = all_of(opened, "figure:nth-of-type(2) .edge.near")
    assert {e.get_attribute("data-a") for e in near} == {"x", "a"}
    assert not hover(opened, "h1")
    assert not all_of(opened, ".edge.near")
    assert opened.get_log("browser") == []


def test_text_on_hovering_stays_within_the_window(opened):
    for css in ('.node[data-n="output"] .frame', ".tile rect"):
        assert hover(opened, css)
        box = one(opened, ".irp-tip").rect
        assert opened.execute_script(
            "var r = document.querySelector('.irp-tip').getBoundingClientRect();"
            "return r.left >= 0 && r.top >= 0 && r.right <= innerWidth && r.bottom <= innerHeight"
        ), box


def test_boxes_say_the_measure_that_is_chosen(opened):
    first = 'figure:nth-of-type(1) .node[data-n="a"] '
    assert shown(opened, f"{first}.m") == ["4x0e+3x1o"]
    heat = f"return getComputedStyle(document.querySelector('{first}.heat')).fillOpacity"
    heat = heat.replace('"a"', '\\"a\\"')
    assert opened.execute_script(heat) == "0"
    for value, unit in (
        ("params", " params"),
        ("flops", " FLOPs"),
        ("score", "e+0"),
        ("time", " ms"),
    ):
        choose(opened, f"[name=irp-measure][value={value}]")
        (text,) = shown(opened, f"{first}.m")
        assert unit in text
        assert float(opened.execute_script(heat)) > 0.05
    choose(opened, "[name=irp-measure][value=irreps]")
    assert shown(opened, f"{first}.m") == ["4x0e+3x1o"]


def test_frozen_values_can_be_hidden(opened):
    frozen = all_of(opened, ".node.frozen:not(.dot) .frame")
    assert frozen
    assert all(e.is_displayed() for e in frozen)
    choose(opened, ".irp-frozen")
    assert not any(e.is_displayed() for e in frozen)
    assert all(e.is_displayed() for e in all_of(opened, '.node[data-n="a"] .frame'))


def test_pictures_stand_beside_or_below_each_other(opened):
    def tops():
        return [f.rect["y"] for f in all_of(opened, "figure")]

    assert tops()[0] == tops()[1]
    choose(opened, ".irp-beside")
    assert tops()[0] < tops()[1]


def test_a_coupled_group_lights_up(opened):
    choose(opened, "details summary")
    button = next(b for b in all_of(opened, "button[data-group]") if b.text == "b:0e")
    button.click()
    lit = {e.get_attribute("data-n") for e in all_of(opened, ".node.on")}
    assert "b" in lit
    assert "a" not in lit
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert not all_of(opened, ".node.on")
    assert not all_of(opened, ".lit")


def test_treemaps_show_what_is_chosen(opened):
    assert [bool(shown(opened, f".tree-{m} text.head")) for m in ("params", "flops")] == [1, 0]
    choose(opened, "[name=irp-tree][value=flops]")
    assert [bool(shown(opened, f".tree-{m} text.head")) for m in ("params", "flops")] == [0, 1]
    choose(opened, "[name=irp-tree][value=time]")
    assert shown(opened, ".tree-time text.head") == ["before: 3 ms", "after: 1 ms ×0.333"]
    assert "66.7 % of the model" in hover(opened, '.tree-time [data-n="a"] rect')


def test_dark_and_light(opened):
    def ground(scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colours = (
            "return [getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('.frame')).fill,"
            " getComputedStyle(document.querySelector('text.head')).fill]"
        )
        return opened.execute_script(colours)

    dark, light = ground("dark"), ground("light")
    assert dark[:2] == [DARK, DARK]
    assert light[:2] == [LIGHT, LIGHT]
    assert dark[2] != light[2]


def test_switches_and_titles_work_without_scripts(driver, page):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(driver, page)
        assert not all_of(driver, ".irp-tip")
        title = one(driver, '.node[data-n="a"] title')
        assert title.get_attribute("textContent").startswith("%a : node[4x0e+3x1o]")
        one(driver, "[name=irp-measure][value=params]").click()
        assert all(" params" in t for t in shown(driver, ".m"))
        assert not one(driver, "button[data-group]").is_enabled()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_names_from_a_model_run_nothing(driver, tmp_path):
    evil = lay_out(VALUES, GROUPS, {"mix": "layer 0"}, EVIL)
    show(driver, write(Report(EVIL, ("a",), (), pictures=(evil,)), tmp_path / "evil.html"))
    text = hover(driver, '.node[data-n="mix"] .frame')
    assert EVIL in text
    assert len(all_of(driver, "script")) == 1
    assert driver.get_log("browser") == []
