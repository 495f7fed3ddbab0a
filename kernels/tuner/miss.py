"""Where nothing is known of a spec: the first stage, done once by another interpreter.

A compiler beside a running model would stand in the way of its launches, and processes that it starts
begin with the script that is running. The other interpreter knows neither: it is asked in JSON, keeps
what it finds in the cache, and answers in JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import torch

from irprune.errors import IrpruneError
from irprune.kernels.triton.config import shallow
from irprune.kernels.tuner import cache
from irprune.kernels.tuner.architecture import Architecture
from irprune.kernels.tuner.entry import Entry, Key, key_of
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec
from irprune.tuning import TuneRequest

SWITCH = "IRPRUNE_SURVEY"
"""Variable: ``0`` leaves the survey out."""
SECONDS = 600
SPECS: dict[str, type[PathSpec | PolySpec]] = {"path": PathSpec, "poly": PolySpec}
ASK = (
    "import sys; sys.path[:] = filter(None, sys.path);"  # nothing of the folder that we are in
    " from irprune.kernels.tuner.miss import main; main()"
)


class NoSurvey(IrpruneError):
    """Nothing was surveyed: the reason."""


def survey_apart(
    spec: PathSpec | PolySpec, dtype: torch.dtype, architecture: Architecture, degree: int
) -> Entry:
    """Compiles the configurations of a spec for an architecture, and says so.

    Of several processes one does it, and the others wait for it.

    Raises:
        NoSurvey: it is switched off, what is found could not be kept, there is no interpreter to ask,
            it takes too long, or it fails.
    """
    python, key = interpreter(), key_of(spec, dtype, architecture, degree)
    asked = {
        "kind": next(k for k, t in SPECS.items() if isinstance(spec, t)),
        "spec": spec.to_json(),
        "dtype": key.dtype,
        "architecture": architecture.name,
        "degree": degree,
    }
    with alone(key):
        known = cache.read(key)
        if known is not None and known.winner is not None:
            return known
        cache.say(
            f"no configuration is known for {spec.key} on {architecture.name}: its"
            f" {len(shallow(spec))} are compiled, once ({SWITCH}=0 leaves that out)"
        )
        return ask(python, asked, key)


def interpreter() -> str:
    """The Python that runs here.

    Raises:
        NoSurvey: it is switched off, or the program that runs does not say where its Python is.
    """
    if os.environ.get(SWITCH) == "0":
        raise NoSurvey(f"{SWITCH}=0")
    if not Path(sys.executable or "").name.startswith("python"):
        raise NoSurvey(f"{sys.executable or 'what runs here'} is no Python to survey with")
    return sys.executable


@contextmanager
def alone(key: Key) -> Iterator[None]:
    """One process at a time for a key.

    Raises:
        NoSurvey: the cache cannot be written, so that every start would do it again; or another process
            is not done in time.
    """
    folder = cache.folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{key.name}.lock", timeout=SECONDS)
        lock.acquire()
    except OSError as error:  # filelock's Timeout is one
        raise NoSurvey(f"nothing can be kept in {folder}: {error}") from error
    try:
        yield
    finally:
        lock.release()


def ask(python: str, asked: dict[str, Any], key: Key) -> Entry:
    """The answer of another interpreter; what it says on stderr is said here.

    Raises:
        NoSurvey: it takes too long, fails, or answers for something else, as one does that has another
            triton.
    """
    try:
        done = subprocess.run(
            [python, "-c", ASK],
            input=json.dumps(asked), capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoSurvey(f"the survey failed: {error}") from error
    lines = done.stderr.strip().splitlines()
    for line in lines:
        if line.startswith("irprune: "):
            cache.say(line.removeprefix("irprune: "))
    if done.returncode != 0:
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise NoSurvey(f"the survey failed: {last}")
    try:
        entry = Entry.from_json(json.loads(done.stdout.strip().rpartition("\n")[2]))
    except Exception as error:  # whatever it answered, it is no entry
        raise NoSurvey(f"{python} answered what is no entry: {error!r}") from error
    if entry.key != key:
        raise NoSurvey(f"{python} has other versions: it answered for {entry.key}")
    return entry


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What the other interpreter does: the entry of what it was asked, as JSON.

    Raises:
        TuneError: no configuration can be used.
    """
    from irprune.devices import processors
    from irprune.kernels.tuner.tune import TritonTuner
    from irprune.passmanager import no_progress

    request = TuneRequest(
        SPECS[asked["kind"]].from_json(asked["spec"]),
        asked["dtype"], asked["architecture"], asked["degree"], jobs=processors(),
    )  # fmt: skip
    return dict(TritonTuner().tune(request, no_progress))


def main() -> None:
    """Reads what is asked from stdin, and answers on stdout."""
    sys.stdout.write(json.dumps(answer(json.load(sys.stdin))) + "\n")
