"""What all verbs share: common options, logs and progress on stderr, one JSON object on stdout."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from irprune.errors import EXIT_CHECK, DataError, IrpruneError, ModelFileError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from irprune.passmanager import CheckLike, Pipeline, Progress

F = TypeVar("F", bound=Callable[..., Any])

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Session:
    """One call of the command line."""

    as_json: bool
    seed: int
    device: str
    dtype: str | None
    trust: bool
    stdout: TextIO

    @property
    def console(self) -> Console:
        """Where results for people go: stdout, or stderr beside ``--json``."""
        from rich.console import Console

        return Console(
            file=sys.stderr if self.as_json else self.stdout, highlight=False, markup=False
        )

    def log(self, message: str) -> None:
        """One line on stderr."""
        sys.stderr.write(message + "\n")

    def emit(self, result: Mapping[str, Any]) -> None:
        """The one JSON object, if ``--json`` was given; adds seed and versions."""
        if self.as_json:
            from irprune.versions import versions

            write_json({**result, "seed": self.seed, "versions": versions()}, self.stdout)

    def load(self, model: str) -> Any:
        """A model as a graph.

        Raises:
            ModelFileError: whatever is wrong with the file.
        """
        from irprune import api

        self.check_device()
        try:
            return api.load(model, trust=self.trust, dtype=self.dtype)
        except IrpruneError:
            raise
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "no message")
            raise ModelFileError(
                f"cannot read the model {model}: {type(error).__name__}: {reason}"
            ) from error

    def load_for(self, model: str, pipeline: Pipeline) -> tuple[Any, frozenset[str]]:
        """A model as a graph, for a pipeline to begin with; and the facts at its end.

        What a pipeline lacks is said before a checkpoint is loaded. A graph file is loaded first: what
        has been done to it is known then.

        Raises:
            PipelineError: a pass needs what none before it, and not the file, provides.
            ModelFileError: whatever is wrong with the file.
        """
        from irprune.families.inspect import is_graph_file

        if not (Path(model).is_file() and is_graph_file(model)):
            pipeline.check({"irreps"})
        graph = self.load(model)
        return graph, pipeline.check({"irreps", *graph.facts})

    def frames(
        self,
        path: str,
        atomistic: Any = None,
        need_labels: Sequence[str] = (),
        keys: str | None = None,
    ) -> Sequence[Any]:
        """The structures of a data file, checked against what the model knows.

        ``keys`` names the user's own keys of labels, as ``energy=KEY,forces=KEY``.

        Raises:
            DataError: it cannot be read or used.
        """
        from irprune.data.frames import check_frames, read_frames
        from irprune.data.views import Keyed, parse_keys

        try:
            frames = read_frames(path)
            frames = frames if keys is None else Keyed(frames, parse_keys(keys))
            check_frames(frames, atomistic, need_labels)
            return frames
        except IrpruneError:
            raise
        except Exception as error:
            raise DataError(
                f"cannot use the structures in {path}: {type(error).__name__}: {error}"
            ) from error

    def only_cpu(self, what: str) -> None:
        """Refuses a device where it would not be used; ``what`` is a verb and what it does.

        Raises:
            UsageError: another device than the CPU.
        """
        if self.device != "cpu":
            raise UsageError(f"{what} on the CPU, got --device {self.device}; leave it out")

    def check_device(self) -> None:
        """Refuses a device that is not there.

        Raises:
            UsageError: it is not.
        """
        if self.device == "cpu":
            return
        from irprune.devices import usable_device

        usable_device(self.device, f"--device {self.device}")

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """A bar on a terminal, a line every few seconds elsewhere; on stderr."""
        if sys.stderr.isatty():
            with _bar(title) as report:
                yield report
        else:
            yield _Lines(title)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def report(label: str, done: int, total: int | None = None) -> None:
            bar.update(task, description=f"{title}: {label}", completed=done, total=total)

        yield report


class _Lines:
    """Progress for logs: at most one line every few seconds, and one for each new label."""

    def __init__(self, title: str, every: float = 5.0) -> None:
        self.title = title
        self.every = every
        self.last = -math.inf
        self.label = ""

    def __call__(self, label: str, done: int, total: int | None = None) -> None:
        now = time.monotonic()
        if label == self.label and now - self.last < self.every:
            return
        self.last, self.label = now, label
        of = f" {done}/{total}" if total else ""
        sys.stderr.write(f"{self.title}: {label}{of}\n")
        sys.stderr.flush()


def common_options(function: F) -> F:
    """Adds --json, --seed, --device, --dtype, --trust-pickle; the verb gets a ``Session`` first."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
    @click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
    @click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …")
    @click.option("--dtype", type=click.Choice(DTYPES), help="Default: that of the model.")
    @click.option(
        "--trust-pickle",
        "trust",
        is_flag=True,
        help="Load model files that are pickles. They can run any code: only for files you trust.",
    )
    @click.pass_context
    @wraps(function)
    def wrapper(
        ctx: click.Context,
        /,
        as_json: bool,
        seed: int,
        device: str,
        dtype: str | None,
        trust: bool,
        **kwargs: Any,
    ) -> Any:
        stdout: TextIO = (ctx.obj or {}).get("stdout") or sys.stdout
        session = Session(as_json, seed, device, dtype, trust, stdout)
        return function(session, **kwargs)

    return wrapper  # type: ignore[return-value]


keys_option = click.option(
    "--keys",
    metavar="LABEL=KEY,…",
    help="Keys of labels in the data, such as energy=my_energy,forces=my_forces.",
)
"""Of the verbs that read labels."""


def existing_file(path: str | None, what: str) -> Path | None:
    """A path that must be a readable file, or a folder of databases, which is read as one file.

    Raises:
        UsageError: it is not there, or is another folder.
    """
    if path is None:
        return None
    found = Path(path)
    if found.is_dir():
        from irprune.data.database import is_database

        if is_database(found):
            return found
        raise UsageError(f"{what} {path} is a folder; name a file")
    if not found.exists():
        raise UsageError(f"{what} {path} does not exist")
    return found


def exit_code(checks: Sequence[CheckLike]) -> int:
    """1 if a check failed, else 0."""
    return 0 if all(c.ok for c in checks) else EXIT_CHECK


def plain(value: Any) -> Any:
    """Anything as JSON types; numbers that JSON has no word for become null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return str(value)


def write_json(value: Mapping[str, Any], stream: TextIO) -> None:
    """One JSON object and a newline."""
    json.dump(plain(value), stream, indent=2, ensure_ascii=False)
    stream.write("\n")
    stream.flush()
