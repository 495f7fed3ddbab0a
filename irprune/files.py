"""Files that are written whole or not at all, and where compiled code is kept."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irprune.errors import UsageError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path beside ``path`` to write to; on success it takes the place of ``path``.

    Its permissions are those of the file that it replaces, else those of any new file here. On any
    failure what was written is removed and ``path`` is as it was. The name keeps the suffix
    of ``path``, for writers that look at it.

    Raises:
        UsageError: the folder does not exist or cannot be written, or ``path`` is a folder,
            a pipe or a device.
    """
    final = Path(path)
    check_writable(final)
    folder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        temporary = folder / final.name
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"nothing was written for {final}")
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(_mode(final, folder))
        os.replace(temporary, final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mode(final: Path, folder: Path) -> int:
    """The permissions of the file that is replaced; of a new one, those that any new file has here.

    Writers create files as they like (safetensors: for the owner alone). The umask cannot be read
    without setting it, which other threads would notice, so a file is created to see.
    """
    seen = final
    if not final.exists():
        seen = folder / f"{final.name}.mode"
        seen.touch()
    return stat.S_IMODE(seen.stat().st_mode)


def cache_folder(part: str) -> Path:
    """Where compiled code is kept: ``part`` under ``$IRPRUNE_CACHE``, else under ``irprune`` in the
    user's cache folder. It need not exist.
    """
    given = os.environ.get("IRPRUNE_CACHE")
    if given:
        return Path(given) / part
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "irprune" / part


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Finds out before long work whether an output file can be written.

    Raises:
        UsageError: it cannot; says why.
    """
    final = Path(path)
    if final.is_dir():
        raise UsageError(f"cannot write {final}: it is a folder; name a file")
    if final.exists() and not final.is_file():
        raise UsageError(
            f"cannot write {final}: it is no regular file but a pipe or a device, which a file would"
            " replace; name a file"
        )
    if not final.parent.is_dir():
        raise UsageError(f"cannot write {final}: there is no folder {final.parent}")
    if not os.access(final.parent, os.W_OK):
        raise UsageError(f"cannot write {final}: the folder {final.parent} is not writable")
    return final
