"""The packages without which nothing can be measured: asked for before anything is imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

NEEDED = {
    "torch": "torch",
    "triton": "triton",
    "e3nn": "e3nn==0.4.4",
    "ase": "ase",
    "matscipy": "matscipy",
    "networkx": "networkx",
    "scipy": "scipy",
    "safetensors": "safetensors",
    "irprune.kernels": "irprune itself, from the root of the repository: pip install -e .",
}
"""Module → what is to be installed."""


def missing(needed: Mapping[str, str] = NEEDED) -> str | None:
    """What is not installed, and how to install it; None if all is there."""
    absent = [what for module, what in needed.items() if not _there(module)]
    if not absent:
        return None
    return (
        f"benchmarks.gpu.run needs what is not installed: {'; '.join(absent)}"
        " (benchmarks/gpu/README.md says how, without a network too)"
    )


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is not there
        return False
