"""What a user hands over in Python, looked at before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irprune.errors import DataError, UsageError


def check_graph(graph: Any) -> None:
    """
    Raises:
        UsageError: no graph.
    """
    from irprune.graph import EquivariantGraph

    if isinstance(graph, str | Path):
        raise UsageError(
            f"a pipeline runs on a graph, got the path {str(graph)!r}; read it first:"
            f" irprune.load({str(graph)!r})"
        )
    if not isinstance(graph, EquivariantGraph):
        raise UsageError(
            f"a pipeline runs on a graph, got {type(graph).__name__}; irprune.load reads one, and"
            " irprune.trace makes one of a module"
        )


def check_structures(data: Any) -> None:
    """
    Raises:
        UsageError: anything else than a sequence of ``ase.Atoms``.
        DataError: a sequence of none.
    """
    from ase import Atoms

    if isinstance(data, str | Path):
        raise UsageError(
            f"data is a sequence of ase.Atoms, got the path {str(data)!r}; read it first:"
            f" ase.io.read({str(data)!r}, ':')"
        )
    if isinstance(data, Atoms):
        raise UsageError(
            f"data is a sequence of ase.Atoms, got one structure ({data.get_chemical_formula()});"
            " put it into a list: [atoms]"
        )
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise UsageError(
            f"data is a sequence of ase.Atoms, got {type(data).__name__}; make it a list: list(data)"
        )
    if not len(data):
        raise DataError("data has no structures; leave data out for generated ones")
    if not isinstance(data[0], Atoms):
        raise UsageError(f"data is a sequence of ase.Atoms, got one of {type(data[0]).__name__}")
