"""The site: generated pages agree with the code, everything public is listed, and it builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import irprune
import irprune.testing
from tests.goldens import Goldens
from tests.pages import FENCE
from tests.pass_table import pass_table

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
OBJECTS = re.findall(r"^::: ([\w.]+)$", (DOCS / "python-api.md").read_text("utf-8"), re.MULTILINE)


def test_the_table_of_passes_is_that_of_the_code(golden: Goldens) -> None:
    passes = {
        e.name: e.load()
        for e in entry_points(group="irprune.passes")
        if e.value.startswith("irprune.")
    }
    Goldens(golden.regenerate, DOCS)("pass-table.md", pass_table(passes))


def test_everything_public_is_in_the_reference() -> None:
    listed = {name.rpartition(".")[2] for name in OBJECTS}
    assert len(OBJECTS) == len(set(OBJECTS))
    assert listed >= set(irprune.__all__)
    assert listed >= set(irprune.testing.__all__)


@pytest.mark.parametrize("name", OBJECTS)
def test_the_reference_names_what_exists_and_is_documented(name: str) -> None:
    from importlib import import_module

    module, _, last = name.rpartition(".")
    if name == "irprune.errors":
        assert import_module(name).__doc__
        return
    value = getattr(import_module(module), last)
    assert last in ("CHECKS", "Make") or (value.__doc__ or "").strip(), f"{name} says nothing"


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]
    named = re.findall(r"([\w/-]+\.md)$", text, re.MULTILINE)
    assert len(named) == len(set(named))
    assert {n for n in named if "/" not in n} == {p.name for p in DOCS.glob("*.md")}


LISTS = re.compile(r"^[^\s|>#].*[^\n]\n(?:[-*]|1\.) ", re.MULTILINE)


@pytest.mark.parametrize("page", sorted(p.name for p in DOCS.glob("*.md")))
def test_a_list_begins_after_an_empty_line(page: str) -> None:
    """Code hosts do without; the site makes one paragraph of it."""
    text = FENCE.sub("", (DOCS / page).read_text("utf-8"))
    for found in LISTS.finditer(text):
        first = found[0].splitlines()[0]
        before = text[: found.start()].rpartition("\n\n")[2]
        inside = re.match(r"(?:[-*]|\d+\.) ", before + first)
        assert inside, f"{page}: no empty line between {first!r} and the list after it"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {
        p.relative_to(tmp_path).as_posix(): p.read_text("utf-8") for p in tmp_path.rglob("*.html")
    }
    assert pages.keys() >= {"index.html", "tutorial.html", "repository/CHANGELOG.html"}
    for name, text in pages.items():
        loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="?(?:https?:)?//[^" >]*', text)
        assert not loaded, f"{name} loads {loaded}"
    assert 'id="irprune.api.load"' in pages["python-api.html"]


def built(folder: Path, page: str) -> subprocess.CompletedProcess[str]:
    """A small site with the hook, of one page beside a folder with notes."""
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "notes").mkdir(exist_ok=True)
    (folder / "docs" / "index.md").write_text(page)
    (folder / "notes" / "README.md").write_text("# Notes\n\n## A part\n\n[data](data.csv)\n")
    (folder / "notes" / "data.csv").write_text("1,2\n")
    (folder / "mkdocs.yml").write_text(
        f"site_name: small\nhooks: [{DOCS / 'hooks' / 'repository.py'}]\n"
        "validation: {links: {anchors: warn}}\ntheme: mkdocs\nplugins: []\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_links_out_of_docs_become_parts_of_the_site(tmp_path: Path) -> None:
    done = built(tmp_path, "# Home\n\n[the notes](../notes), [a part](../notes/README.md#a-part)\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "repository" / "notes" / "data.csv").read_text() == "1,2\n"
    home = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert 'href="repository/notes/"' in home
    assert 'href="repository/notes/#a-part"' in home


@pytest.mark.slow
@pytest.mark.parametrize("target", ["../notes/missing.md", "../notes/README.md#no-such-part"])
def test_a_link_to_nothing_fails_the_build(target: str, tmp_path: Path) -> None:
    done = built(tmp_path, f"# Home\n\n[nothing]({target})\n")
    assert done.returncode != 0
    assert target.removeprefix("../") in done.stderr
