"""Ops of other distributions: the entry-point group ``irprune.ops``.

An entry names an OpDef: ``saturation = "my_package.ops:Saturation"``. It is imported when a model is
traced or a graph file is read, so that a graph with the op loads wherever the package is installed.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from irprune.errors import UsageError
from irprune.ops.base import OpDef, load_builtin_ops, op_named

GROUP = "irprune.ops"
_loaded: set[tuple[str, str]] = set()


def load_ops() -> None:
    """Registers the built-in ops, and those of installed distributions.

    Raises:
        UsageError: an entry that cannot be imported, or is no op of that name.
    """
    load_builtin_ops()
    for entry in entry_points(group=GROUP):
        if (entry.name, entry.value) in _loaded:
            continue
        try:
            found = entry.load()
        except Exception as error:
            raise UsageError(
                f"op {entry.name!r} is installed as {entry.value} but cannot be loaded:"
                f" {type(error).__name__}: {error}"
            ) from error
        is_op = isinstance(found, type) and issubclass(found, OpDef) and found.name == entry.name
        if not is_op or type(op_named(entry.name)) is not found:
            raise UsageError(
                f"entry point {entry.name!r} = {entry.value} is not a registered op of that name;"
                " decorate its class with @irprune.register_op"
            )
        _loaded.add((entry.name, entry.value))
