"""Tutorial and how-to pages run as they stand, from a shell (tests/pages.py)."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.pages import SESSIONS, missing, run_page

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # pip reads a variable of a "no" option as the opposite
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
"""pip installs what it is given; what that needs is in this environment."""


def checkout(folder: Path) -> None:
    """A copy of the sources in ``folder``/irprune, so that no build writes into the repository."""
    target = folder / "irprune"
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    for name in ("irprune", "passes", "kernels"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, target / name, ignore=ignore)


@pytest.mark.real
@pytest.mark.slow
def test_tutorial(tmp_path: Path) -> None:
    checkout(tmp_path)
    packages = [p for p in sys.path if p.endswith("site-packages")]
    run_page(read("tutorial.md"), tmp_path, {**OFFLINE, "PYTHONPATH": ":".join(packages)})
    assert (tmp_path / "env" / "bin" / "irprune").is_file()


@pytest.mark.slow
def test_write_a_pass(tmp_path: Path) -> None:
    site = str(tmp_path / "site")  # in the place of the environment that the tests run in
    run_page(read("write-a-pass.md"), tmp_path, {**OFFLINE, "PIP_TARGET": site, "PYTHONPATH": site})


@pytest.mark.slow
def test_prune_for_lammps(tmp_path: Path) -> None:
    import torch

    from tests.families import mace_models, sevennet_models

    made = sevennet_models.build(lmax=1, channel=2, is_parity=False)
    torch.save(sevennet_models.checkpoint_of(*made), tmp_path / "model.pth")
    torch.save(
        mace_models.build("4x0e", num_interactions=1, correlation=2), tmp_path / "mace.model"
    )
    run_page(read("lammps.md"), tmp_path)


@pytest.mark.slow
def test_read_the_report(tmp_path: Path) -> None:
    import torch

    from tests.families.sevennet_models import tiny_checkpoint

    torch.save(tiny_checkpoint(), tmp_path / "model.pth")
    run_page(read("read-the-report.md"), tmp_path)


def test_every_page_that_runs_whole_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert set(re.findall(r"run_page\(read\(\"([\w.-]+)\"\)", source)) == set(SESSIONS)


def test_every_section_of_a_report_is_explained() -> None:
    """The headings in the source of the report are the sections that the page lists."""
    files = [p for name in ("report", "picture") for p in (ROOT / "irprune" / name).glob("*.py")]
    sources = (p.read_text(encoding="utf-8") for p in files)
    found = {h for text in sources for h in re.findall(r"<h2>([\w ]+?)(?: by|\{of\}|<| \{)", text)}
    page = read("read-the-report.md")
    cells = re.findall(r"^\| ([A-Z][^|]*) \|", page, re.MULTILINE)
    listed = {re.sub(r" by .*", "", name) for cell in cells for name in cell.split(", ")}
    assert found == listed


# The runner itself


PAGE = """\
```sh
export WORD=here
```
```python title="told.py"
WORD = "told"
```
```python
import told
x = 1
```
Words.
```python
print(told.WORD, x, 0.123)
```
```text
told 1   0.…
```
```sh
echo "$WORD"
```
```text
here
```
"""


def test_a_page_is_one_session(tmp_path: Path) -> None:
    run_page(PAGE, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("told 1   0.…", "told 2", "the page promises 'told 2', printed is\ntold 1 0.123\n"),
        ("import told", "import untold", "No module named 'untold'"),
        ('echo "$WORD"', "false", "exit code 1 in\nfalse\n"),
        ("```sh\nexport", "```console\nexport", "nobody knows how to run a block of console"),
    ],
)
def test_a_page_that_does_not_hold_fails(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, ValueError)) as caught:
        run_page(PAGE.replace(old, new), tmp_path)
    assert said in str(caught.value)


def test_lines_are_promised_in_order() -> None:
    assert missing(["a", "c"], "a\nb\nc\n") is None
    assert missing(["c", "a"], "a\nb\nc\n") == "a"
    assert missing(["x … z"], "x y w\n") == "x … z"
