"""Runs the code blocks of a page of docs/ as one session of a terminal.

- ``python`` blocks run; neighbours without an ``sh`` block between them share one process.
- ``sh`` blocks run in one shell: variables and an activated environment last.
- ``python title="FILE"`` and likewise ``toml`` and ``yaml`` are written to FILE.
- a ``text`` block right after code is what the code prints: its lines, in order, among others.
  ``…`` stands for anything.
- ``lammps`` is input of LAMMPS, which is not here: shown, not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
FILES = ("python", "toml", "yaml")
NOT_RUN = ("lammps",)
SHOWN = 4000

SESSIONS = ("tutorial.md", "lammps.md", "write-a-pass.md", "read-the-report.md")
"""Pages that run whole, as they stand (tests/test_pages.py)."""


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the file that it is (or none), and its text."""

    language: str
    title: str
    text: str

    @property
    def kind(self) -> str:
        """``file``, ``python``, ``sh``, ``text`` or ``not run``.

        Raises:
            ValueError: a language that says nothing about what to do with the block.
        """
        if self.title and self.language in FILES:
            return "file"
        if not self.title and self.language in ("python", "sh", "text"):
            return self.language
        if self.language in NOT_RUN:
            return "not run"
        raise ValueError(f"nobody knows how to run a block of {self.language or 'nothing'}")


def blocks(page: str) -> tuple[Block, ...]:
    """All fenced blocks of a page."""
    return tuple(Block(*found) for found in FENCE.findall(page))


def script(parts: Sequence[Block]) -> str:
    """The session as one bash script; a line ``@@ i`` comes before the output of block i."""
    lines = ["set -euo pipefail"]
    for i, group in _groups(parts):
        text = "".join(b.text for b in group)
        end = f"END_OF_BLOCK_{i}"
        if group[0].kind == "file":
            lines += [
                f'mkdir -p "$(dirname {group[0].title})"',
                f"cat > {group[0].title} <<'{end}'\n{text}{end}",
            ]
        elif group[0].kind == "python":
            lines += [f"echo '@@ {i}'", f"python -W ignore - <<'{end}'\n{text}{end}"]
        elif group[0].kind == "sh":
            lines += [f"echo '@@ {i}'", text]
    return "\n".join(lines) + "\n"


def _groups(parts: Sequence[Block]) -> Iterator[tuple[int, list[Block]]]:
    """Blocks that run together, with the number of the last of them; texts do not part Python."""
    group: list[tuple[int, Block]] = []
    for i, block in enumerate(parts):
        if block.kind == "text":
            continue
        if group and not (group[-1][1].kind == block.kind == "python"):
            yield group[-1][0], [b for _, b in group]
            group = []
        group.append((i, block))
    if group:
        yield group[-1][0], [b for _, b in group]


def promises(parts: Sequence[Block]) -> dict[int, list[str]]:
    """Number of a group → the lines that its text blocks promise, in order."""
    of_block: dict[int, int] = {}
    numbers = [i for i, b in enumerate(parts) if b.kind != "text"]
    groups = {i: len(group) for i, group in _groups(parts)}
    for i, size in groups.items():
        at = numbers.index(i)
        of_block.update(dict.fromkeys(numbers[at - size + 1 : at + 1], i))
    found: dict[int, list[str]] = {}
    for i, block in enumerate(parts):
        if block.kind == "text" and i and parts[i - 1].kind in ("python", "sh"):
            found.setdefault(of_block[i - 1], []).extend(block.text.splitlines())
    return found


def missing(promised: Sequence[str], printed: str) -> str | None:
    """The first promised line that is not printed after those before it."""
    lines = iter(" ".join(line.split()) for line in printed.splitlines())
    for line in promised:
        words = " ".join(line.split())
        pattern = re.compile(".*".join(map(re.escape, words.split("…"))))
        if words and not any(pattern.fullmatch(found) for found in lines):
            return line
    return None


def run_page(page: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """Runs all blocks of a page in ``folder``, and compares what they print with what it says.

    Raises:
        AssertionError: a block fails, or does not print what the text after it says.
    """
    parts = blocks(page)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    done = subprocess.run(
        ["bash", "-c", script(parts)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100",
            **(environment or {}),
        },
    )  # fmt: skip
    outputs = re.split(r"^@@ (\d+)\n", done.stdout, flags=re.MULTILINE)
    printed = {int(i): text for i, text in zip(outputs[1::2], outputs[2::2], strict=True)}
    if done.returncode:
        last = max(printed, default=0)
        raise AssertionError(
            f"exit code {done.returncode} in\n{parts[last].text}\n{done.stderr[-SHOWN:]}"
        )
    for i, promised in promises(parts).items():
        line = missing(promised, printed[i])
        if line is not None:
            raise AssertionError(f"the page promises {line!r}, printed is\n{printed[i][-SHOWN:]}")
