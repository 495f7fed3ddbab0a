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

from irprune.cost import DEFAULT_EDGES_PER_ATOM
from irprune.errors import IrpruneError
from irprune.kernels.triton.config import shallow
from irprune.kernels.triton.installed import interpreted
from irprune.kernels.tuner import cache
from irprune.kernels.tuner.architecture import Architecture
from irprune.kernels.tuner.entry import Entry, Key, degree_of, key_of
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
    spec: PathSpec | PolySpec, dtype: torch.dtype, architecture: Architecture
) -> Entry:
    """Compiles the configurations of a spec for an architecture, and says so.

    For the usual number of edges per node: the estimate hardly depends on it. Of several processes one
    does it, and the others wait for it.

    Raises:
        NoSurvey: it is switched off, there is nothing to survey with, what is found could not be kept,
            it takes too long, or it fails.
    """
    degree = degree_of(spec, DEFAULT_EDGES_PER_ATOM)
    python, key = interpreter(), key_of(spec, dtype, architecture, degree)
    asked = {
        "kind": next(k for k, t in SPECS.items() if isinstance(spec, t)),
        "spec": spec.to_json(),
        "dtype": key.dtype,
        "architecture": architecture.name,
        "degree": degree,
    }
    what = f"{spec.key} on {architecture.name} in {key.dtype}"
    with alone(key, what):
        known = cache.read(key)
        if known is None or known.winner is None:
            cache.say(
                f"no configuration is known for {what}: its {len(shallow(spec))} are compiled, once"
                f" ({SWITCH}=0 leaves that out)"
            )
            known = ask(python, asked, key)
    if known.winner is None:
        raise NoSurvey("none of its configurations can be used")
    return known


def interpreter() -> str:
    """The Python that runs here.

    Raises:
        NoSurvey: it is switched off, nothing can be compiled, or the program that runs does not say
            where its Python is.
    """
    if os.environ.get(SWITCH) == "0":
        raise NoSurvey(f"{SWITCH}=0")
    if interpreted():
        raise NoSurvey("in Triton's interpreter (TRITON_INTERPRET=1) nothing is compiled")
    if not Path(sys.executable or "").name.startswith("python"):
        raise NoSurvey(f"{sys.executable or 'what runs here'} is no Python to survey with")
    return sys.executable


@contextmanager
def alone(key: Key, what: str) -> Iterator[None]:
    """One process at a time for a key; says that it waits for another.

    Raises:
        NoSurvey: the cache cannot be written, so that every start would do it again; or another process
            is not done in time.
    """
    folder = cache.folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{key.name}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            cache.say(f"another process compiles the configurations of {what}: it is waited for")
            lock.acquire(timeout=SECONDS)
    except filelock.Timeout as error:
        raise NoSurvey(f"another process has not surveyed it in {SECONDS} s") from error
    except (OSError, NotImplementedError) as error:  # a file system may have no locks
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
            input=json.dumps(asked), capture_output=True, timeout=SECONDS, check=False,
            encoding="utf-8", errors="replace", env={**os.environ, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NoSurvey(f"the survey takes more than {SECONDS} s") from error
    except OSError as error:
        raise NoSurvey(f"the survey failed: {error}") from error
    lines = done.stderr.strip().splitlines()
    for line in lines:
        if line.startswith("irprune: "):
            cache.say(line.removeprefix("irprune: "))
    if done.returncode != 0:
        # one that was killed says no reason, but what others say of it
        last = lines[-1] if lines and done.returncode > 0 else f"exit code {done.returncode}"
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
