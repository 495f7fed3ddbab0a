"""Configurations that a stage pins hold in that stage only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from irprune.kernels.triton import config


@contextmanager
def pins_of_its_own() -> Iterator[None]:
    """Nothing is pinned inside, and what was pinned outside is again afterwards."""
    before = dict(config._PINNED)
    config._PINNED.clear()
    try:
        yield
    finally:
        config._PINNED.clear()
        config._PINNED.update(before)
