"""What a pipeline shows of itself while it runs: texts on stderr, one file per step."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from irprune.errors import UsageError
from irprune.passbase import Pass

ALL = "all"
"""Stands for every pass of the pipeline."""


class Observer(Protocol):
    """What ``run_pipeline`` calls around every pass."""

    def start(self, graph: Any, passes: Sequence[Pass]) -> None: ...
    def before(self, p: Pass, graph: Any) -> None: ...
    def after(self, p: Pass, before: Any, after: Any) -> None: ...


@dataclass(frozen=True)
class Printer:
    """Prints graphs as text before and after passes, and what passes change in it.

    Args:
        print_before: names of passes, or ``all``.
        print_after: likewise.
        print_change: after every pass, the lines of text that it has changed.
        stream: where to; stderr by default.
    """

    print_before: Collection[str] = ()
    print_after: Collection[str] = ()
    print_change: bool = False
    stream: TextIO | None = None

    def start(self, graph: Any, passes: Sequence[Pass]) -> None:
        """Checks the names.

        Raises:
            UsageError: a name that no pass of the pipeline has.
        """
        names = [p.name for p in passes]
        for name in (*self.print_before, *self.print_after):
            if name != ALL and name not in names:
                raise UsageError(
                    f"cannot print before or after {name!r}: the pipeline has"
                    f" {', '.join(names) or 'no pass'} (or write {ALL})"
                )

    def before(self, p: Pass, graph: Any) -> None:
        if ALL in self.print_before or p.name in self.print_before:
            self._print(f"# before {p.text()}", str(graph))

    def after(self, p: Pass, before: Any, after: Any) -> None:
        if ALL in self.print_after or p.name in self.print_after:
            self._print(f"# after {p.text()}", str(after))
        if self.print_change:
            lines = changed_lines(_all_of(before), _all_of(after))
            self._print(
                f"# {p.text()} changed {len(lines)} lines" if lines else f"# {p.text()}: no change",
                "\n".join(lines),
            )

    def _print(self, title: str, text: str) -> None:
        stream = self.stream or sys.stderr
        stream.write(f"{title}\n{text}\n" if text else f"{title}\n")


@dataclass
class Dumper:
    """Writes text and graph file of the input and after every pass: ``01-cse.txt``, ``01-cse.irp``.

    The folder is made; it must be empty. A graph file holds no masks and scores, the text has the
    masks. A graph that no file can hold has its text alone, and that is said on stderr.
    """

    folder: Path
    stream: TextIO | None = None
    written: list[Path] = field(default_factory=list)

    def start(self, graph: Any, passes: Sequence[Pass]) -> None:
        """Makes the folder and writes the input.

        Raises:
            UsageError: it holds something already, or cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            full = any(self.folder.iterdir())
        except OSError as error:
            raise UsageError(f"cannot dump to {self.folder}: {error.strerror or error}") from None
        if full:
            raise UsageError(f"cannot dump to {self.folder}: it is not empty; name a new folder")
        self._write("input", graph)

    def before(self, p: Pass, graph: Any) -> None:
        """Nothing: what comes before is what came after."""

    def after(self, p: Pass, before: Any, after: Any) -> None:
        self._write(p.name, after)

    def _write(self, name: str, graph: Any) -> None:
        stem = f"{len(self.written):02d}-{name}"
        path = self.folder / f"{stem}.txt"
        path.write_text(_all_of(graph) + "\n", encoding="utf-8")
        self.written.append(path)
        try:
            graph.save(str(self.folder / f"{stem}.irp"))
        except UsageError as error:
            (self.stream or sys.stderr).write(f"no graph file {stem}.irp: {error}\n")


def changed_lines(before: str, after: str) -> list[str]:
    """The lines that went (``-``) and came (``+``), without those around them."""
    found = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [x for x in found if x[0] in "+-" and not x.startswith(("---", "+++"))]


def _all_of(graph: Any) -> str:
    """The text with tensors, and with axes where something is selected."""
    text: str = graph.text(tensors=True, groups=graph.keep is not None)
    return text
