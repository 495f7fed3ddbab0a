"""What a model file is, found out without unpickling anything."""

from __future__ import annotations

import json
import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path

MAX_PICKLE = 256 * 2**20
"""Bytes of a zip's pickle that are looked at; a larger one is not taken for a checkpoint."""
_MAX_HEADER = 100 * 2**20
_PLAIN = frozenset(
    {"torch", "collections", "builtins", "__builtin__", "numpy", "_codecs", "copyreg"}
)
_STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})


@dataclass(frozen=True)
class PickleSummary:
    """Names in the pickle of a ``torch.save`` file."""

    globals: frozenset[str]
    """Classes and functions that unpickling would look up, ``module.name``."""
    strings: frozenset[str]


def pickle_summary(path: str | Path) -> PickleSummary | None:
    """Reads the opcodes of ``data.pkl`` in a ``torch.save`` zip, and executes none.

    Returns None where the file is no such zip, or its pickle is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
            if not names or archive.getinfo(names[0]).file_size > MAX_PICKLE:
                return None
            data = archive.read(names[0])
        return _summary(data)
    except (OSError, ValueError, EOFError, IndexError, NotImplementedError, zipfile.BadZipFile):
        return None
    except Exception as error:  # zlib.error, and what else a damaged archive may raise
        if type(error).__module__ in ("zlib", "lzma", "struct"):
            return None
        raise


def _summary(data: bytes) -> PickleSummary:
    globals_: set[str] = set()
    strings: set[str] = set()
    recent: list[str] = []
    for op, arg, _ in pickletools.genops(data):
        if op.name == "GLOBAL":
            globals_.add(str(arg).replace(" ", "."))
        elif op.name == "STACK_GLOBAL" and len(recent) >= 2:
            globals_.add(".".join(recent[-2:]))
        elif op.name in _STRINGS:
            strings.add(str(arg))
            recent.append(str(arg))
    return PickleSummary(frozenset(globals_), frozenset(strings))


def safetensors_metadata(path: str | Path) -> dict[str, str] | None:
    """The metadata of a safetensors file; None where the file is none."""
    try:
        with Path(path).open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            if not 2 <= size <= min(_MAX_HEADER, Path(path).stat().st_size):
                return None
            header = json.loads(handle.read(size))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(header, dict):
        return None
    found = header.get("__metadata__", {})
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def is_graph_file(path: str | Path) -> bool:
    """Whether the file is one of irprune's own graph files."""
    return "irprune_graph" in (safetensors_metadata(path) or {})


def _package(name: str) -> str:
    """``mace.modules.models.X`` → ``mace``; torch's networks apart from its tensors."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[:2] == ["torch", "nn"] else parts[0]


def describe(path: str | Path) -> str:
    """What a file seems to be, for messages: ``an empty file``, ``a torch file of X``, …"""
    if Path(path).stat().st_size == 0:
        return "an empty file"
    if safetensors_metadata(path) is not None:
        return "a safetensors file without an irprune graph"
    summary = pickle_summary(path)
    if summary is not None:
        owners = {_package(g) for g in summary.globals} - _PLAIN
        if any(g.startswith("__torch__.") for g in summary.globals):
            return "a TorchScript file"
        if owners:
            return f"a pickle of objects of {', '.join(sorted(owners))}"
        return "a torch file (a dictionary of tensors or settings) of an unknown kind"
    with Path(path).open("rb") as handle:
        start = handle.read(4)
    if start.startswith(b"PK"):
        return "a damaged or incomplete zip file, or one that torch.save did not write"
    return f"not a torch or safetensors file (it starts with {start!r})"
