"""Which triton is installed, whatever its wheel is called, and whether the kernels work with it."""

from __future__ import annotations

import functools
import importlib.util
import os


@functools.cache
def triton_version() -> str | None:
    """The version of the package triton, or None. Wheels for ROCm have other names, so that the package
    itself is asked.
    """
    if importlib.util.find_spec("triton") is None:
        return None
    import triton

    return str(triton.__version__)


def missing_triton() -> str | None:
    """Why triton cannot be used, or None."""
    found = triton_version()
    if found is None:
        return "the package triton is not installed (pip install 'irprune[triton]')"
    if not (3, 6) <= _numbers(found) < (3, 10):
        return f"works with triton 3.6 to 3.9, found {found}"
    return None


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter: it reads the variable when it is imported."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")


def broken_interpreter() -> str | None:
    """Why the interpreter cannot run the kernels, or None: that of triton 3.6 loops over bounds from
    memory by a conversion that numpy 2.4 has taken away.
    """
    import numpy

    found = triton_version()
    if found is not None and _numbers(found) < (3, 7) and _numbers(numpy.__version__) >= (2, 4):
        return (
            f"the interpreter of triton {found} needs numpy before 2.4, found {numpy.__version__}"
        )
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
