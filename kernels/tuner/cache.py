"""The cache of tuned configurations: one JSON file per key, and tables that may be handed on.

Files are written beside their place and renamed, so that several processes may tune at once: the last
one wins, and nobody reads half a file. A file that cannot be used is said to be so and counts as
missing. A folder that cannot be written is said to be so as well: what was found is used, and lost.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from irprune.errors import UsageError
from irprune.files import atomic_path, cache_folder
from irprune.kernels.tuner.entry import SCHEMA, Entry, Key

TABLES = "IRPRUNE_TUNED"
"""Variable: tables of tuned configurations, separated as paths are."""
SHIPPED = Path(__file__).parent / "tables"
"""Tables that come with irprune."""

FARTHEST = 13
"""Powers of two between the fewest and the most edges per node that are looked up."""

_told: set[str] = set()


def say(message: str) -> None:
    """One line on stderr, once per process."""
    if message not in _told:
        _told.add(message)
        sys.stderr.write(f"irprune: {message}\n")


def folder() -> Path:
    """Where the files are; it need not exist."""
    return cache_folder("tuned")


def path_of(key: Key) -> Path:
    """The file of a key."""
    return folder() / f"{key.name}.json"


def load(key: Key) -> Entry | None:
    """What is known for a key: the user's own file, or an entry of a table that knows more.

    Tables are those that ``IRPRUNE_TUNED`` names and those that come with irprune.
    """
    own, shared = read(key), tables().get(key)
    if own is None or (shared is not None and shared.stage > own.stage):
        return shared
    return own


def load_near(key: Key) -> Entry | None:
    """What has a winner for a key, or for another number of edges per node: the nearest in ratio."""
    near = (2**step for step in range(FARTHEST))
    for degree in (d for ratio in near for d in (key.degree * ratio, key.degree // ratio) if d):
        found = load(replace(key, degree=degree))
        if found is not None and found.winner is not None:
            return found
    return None


def read(key: Key) -> Entry | None:
    """The user's own file of a key; None where there is none, or none that can be used."""
    path = path_of(key)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        say(f"the tuned configurations in {path} cannot be read and are not used: {error}")
        return None
    try:
        entry = Entry.from_json(json.loads(text))
    except Exception as error:  # whatever is wrong with it, the file is the cause
        say(f"the tuned configurations in {path} are damaged and not used: {error}")
        return None
    if entry.key != key:
        say(f"the tuned configurations in {path} belong to another key and are not used")
        return None
    return entry


def save(entry: Entry) -> bool:
    """Writes an entry; False, and a line on stderr, where that is not possible."""
    path = path_of(entry.key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(entry.to_json(), indent=1) + "\n", encoding="utf-8")
    except (OSError, UsageError) as error:
        say(f"tuned configurations cannot be kept in {path.parent}: {error}")
        return False
    return True


def write_table(path: Path, entries: Iterable[Entry]) -> None:
    """Writes a table: entries by key, those that a table at this place holds included.

    Raises:
        UsageError: the place cannot be written, or holds something else.
    """
    found = read_table(path) if path.exists() else {}
    found |= {e.key: e for e in entries}
    rows = [found[k].to_json() for k in sorted(found, key=lambda k: k.name)]
    with atomic_path(path) as temporary:
        text = json.dumps({"schema": SCHEMA, "entries": rows}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_table(path: Path) -> dict[Key, Entry]:
    """The entries of a table.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']} is not {SCHEMA}")
        entries = [Entry.from_json(e) for e in found["entries"]]
    except Exception as error:
        raise UsageError(
            f"{path} is no table of tuned configurations: {type(error).__name__}: {error}"
        ) from error
    return {e.key: e for e in entries}


def tables() -> Mapping[Key, Entry]:
    """All entries of all tables; the first that names a key counts.

    Raises:
        UsageError: a table that ``IRPRUNE_TUNED`` names cannot be read.
    """
    named = tuple(filter(None, os.environ.get(TABLES, "").split(os.pathsep)))
    return _tables((*named, *(str(p) for p in sorted(SHIPPED.glob("*.json")))))


@functools.lru_cache(maxsize=4)
def _tables(paths: tuple[str, ...]) -> Mapping[Key, Entry]:
    found: dict[Key, Entry] = {}
    for path in paths:
        found = {**read_table(Path(path)), **found}
    return found
