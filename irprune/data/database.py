"""Structures of ASE databases and LMDB data sets, read one by one when they are wanted."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from ase import Atoms

from irprune.errors import DataError

SUFFIXES = (".db", ".aselmdb")
"""SQLite files of ASE, and the LMDB files of its package ase-db-backends."""


def is_database(path: Path) -> bool:
    """Whether the path is a database, or a folder that holds some."""
    return path.suffix in SUFFIXES or (path.is_dir() and bool(_files(path)))


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(p for s in SUFFIXES for p in path.glob(f"*{s}"))


class Rows(Sequence[Atoms]):
    """The structures of one database, or of all in a folder, in order of file name and id.

    Energies, forces and stress of a row become the results of a calculator; its key-value pairs and
    data go into ``info``. Nothing but ids is kept in memory. A copy in another process opens the
    files anew.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            DataError: a file cannot be opened, or the package that reads it is missing.
        """
        self.path, self.files = path, _files(path)
        self.places = [(file, i) for file in self.files for i in self._ids(file)]

    def _ids(self, file: Path) -> list[int]:
        database = _connect(file.resolve())
        ids = getattr(database, "ids", None)  # of LMDB files; counting rows would read them
        try:
            return list(ids or [row.id for row in database.select(columns=["id"])])
        except Exception as error:  # whatever the backend raises
            raise DataError(f"cannot read {file}: {type(error).__name__}: {error}") from error

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Atoms: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Atoms | Rows:
        if isinstance(index, slice):
            part = object.__new__(Rows)
            part.__dict__.update(self.__dict__, places=self.places[index])
            return part
        file, number = self.places[index]
        row = _connect(file.resolve()).get(id=number)
        atoms: Atoms = row.toatoms()
        atoms.info.update(row.key_value_pairs)
        atoms.info.update(row.data)
        return atoms


@functools.cache
def _connect(file: Path) -> Any:
    """The one connection of this process: LMDB allows no second one to a file."""
    from ase.db import connect

    try:
        if file.suffix == ".aselmdb":
            return connect(str(file), type="aselmdb", readonly=True, use_lock_file=False)
        return connect(str(file), use_lock_file=False)
    except (ImportError, ModuleNotFoundError, ValueError) as error:
        raise DataError(
            f"cannot open {file} ({error}); LMDB data sets need the package ase-db-backends:"
            " pip install irprune[data]"
        ) from error
    except Exception as error:  # whatever the backend raises
        raise DataError(f"cannot open {file}: {type(error).__name__}: {error}") from error
