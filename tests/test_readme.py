"""The README's Python example runs, and its command lines exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    part.split("#")[0].strip()
    for line in re.findall(r"^    (irprune .*)$", README, re.MULTILINE)
    for part in line.split(";")
    if part.split("#")[0].strip().startswith("irprune ")
]


def test_there_is_something_to_test() -> None:
    assert len(BLOCKS) == 1
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("line", COMMANDS)
def test_command_lines_parse(line: str) -> None:
    import click

    from irprune.cli.main import cli

    _, verb, *args = shlex.split(line)
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    command.make_context(verb, args)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_python_example_runs(block: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after = re.search(r"(\d+) -> (\d+)", done.stdout).groups()  # type: ignore[union-attr]
    assert int(after) < int(before)
    assert (tmp_path / "small.irp").is_file()
