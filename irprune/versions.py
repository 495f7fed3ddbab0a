"""Versions of what a result depends on, read from metadata: nothing is imported."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_DISTRIBUTIONS = ("irprune", "torch", "e3nn", "numpy", "ase", "matscipy", "sevenn", "mace-torch")


def versions() -> dict[str, str]:
    """Installed versions by distribution, and Python's."""
    out = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out
