"""Model families, and how a name or a file becomes a graph.

A family's subpackage is imported when a name or file is asked for, and its library when the family
loads one: importing this package is cheap.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irprune.errors import ModelFileError, UsageError

if TYPE_CHECKING:
    from irprune.families.base import Family
    from irprune.graph import EquivariantGraph

FAMILIES = {
    "mace": "irprune.families.mace:MaceFamily",
    "sevennet": "irprune.families.sevennet:SevenNetFamily",
}
"""Family name → where its class is."""


def family_named(name: str) -> Family:
    """The family with this name.

    Raises:
        UsageError: no such family; names the known ones.
    """
    if name not in FAMILIES:
        raise UsageError(f"no model family named {name!r}; known are {', '.join(FAMILIES)}")
    module, _, attribute = FAMILIES[name].partition(":")
    made: Any = getattr(importlib.import_module(module), attribute)()
    return made


def register_ops(family: str) -> None:
    """Makes the ops known that a family adds to the built-in ones; does nothing for others.

    A family that has some gives its package a function ``register_ops`` that may be called often.
    """
    if family in FAMILIES:
        package = importlib.import_module(FAMILIES[family].partition(":")[0])
        register = getattr(package, "register_ops", None)
        if register is not None:
            register()


def family_of(graph: EquivariantGraph) -> Family:
    """The family that a graph was loaded by.

    Raises:
        UsageError: the graph was traced from a module or read from a graph file: it has none.
    """
    if graph.source is None:
        raise UsageError(
            "this graph does not come from a model family's checkpoint, so it has no native form;"
            " use the target graph"
        )
    return family_named(graph.source.family)


def load_model(
    name_or_path: str | Path, trust: bool = False, dtype: str | None = None
) -> EquivariantGraph:
    """A checkpoint, a name that a family resolves, or one of our graph files, as a graph.

    Args:
        name_or_path: a file, or a name such as ``7net-0``.
        trust: allow pickles that can run code. Only for files that you trust.
        dtype: ``float32`` or ``float64``; default that of the model.

    Raises:
        UsageError: there is no such file or name, or no such dtype.
        ModelFileError: the file cannot be read, is not trusted or is not supported.
    """
    graph = _load(str(name_or_path), trust)
    if dtype is None:
        return graph
    import torch

    if dtype not in ("float32", "float64"):
        raise UsageError(f"unknown dtype {dtype!r}; known are float32, float64")
    atomistic = graph.atomistic
    if atomistic is not None and dtype == "float32":  # the constants are rounded too
        atomistic = dataclasses.replace(atomistic, dtype=dtype)
    return graph.replace(gm=graph.module(getattr(torch, dtype)), atomistic=atomistic)


def _load(name: str, trust: bool) -> EquivariantGraph:
    from irprune.families.inspect import describe, is_graph_file

    path = Path(name)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a model file")
    if path.is_file() and is_graph_file(path):
        from irprune import graphfile

        return graphfile.load(path)
    for known in FAMILIES:
        family = family_named(known)
        if family.claims(name):
            from irprune.families.trace import trace_family

            loaded = family.load(name, trust)
            for note in loaded.notes:
                sys.stderr.write(f"irprune: {note}\n")
            return trace_family(family, loaded)
    if not path.exists():
        raise UsageError(
            f"there is no model file {name}, and no family knows a model of that name"
            " (names: 7net-0, 7net-l3i5)"
        )
    raise ModelFileError(
        f"{path} is {describe(path)}, which no model family reads; known are checkpoints of"
        f" {', '.join(FAMILIES)}, and graph files of irprune"
    )
