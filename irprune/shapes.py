"""Runs on random numbers, which are there for shapes, or to compare two modules on the same.

Such inputs break what real ones keep: distances lie outside of tables, edges have no reverse. What
would refuse them asks here first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_only: ContextVar[bool] = ContextVar("only", default=False)


@contextmanager
def only_shapes() -> Iterator[None]:
    """Within, inputs mean nothing."""
    token = _only.set(True)
    try:
        yield
    finally:
        _only.reset(token)


def values_matter() -> bool:
    """Whether inputs are what they seem."""
    return not _only.get()
