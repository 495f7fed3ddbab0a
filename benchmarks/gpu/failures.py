"""What goes wrong in one case stands in its row, and the run goes on to the next."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

T = TypeVar("T")
CASE = "case"
"""Under which a failure of a whole case stands."""
OURS = "triton"


class DeviceLost(Exception):
    """The GPU answers nothing any more in this process: nothing else can be measured."""


def attempt(failed: dict[str, str], name: str, call: Callable[[], T]) -> T | None:
    """What the call gives; None where it raises, and ``failed[name]`` is then what was raised.

    Raises:
        DeviceLost: the GPU cannot go on after the failure.
    """
    try:
        return call()
    except DeviceLost:
        raise
    except Exception as error:  # whatever it is, the other cases do not depend on it
        failed[name] = describe(error)
    # out of the handler: the traceback held what the call had allocated
    free()
    return None


def describe(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"


def free() -> None:
    """Gives the memory of a failed call back to the GPU.

    Raises:
        DeviceLost: that fails too, as it does after an illegal access.
    """
    gc.collect()
    if not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except Exception as error:
        raise DeviceLost(describe(error)) from error


def out_of_memory(text: str) -> bool:
    """Whether this is how a lack of memory is described."""
    return text.startswith(torch.OutOfMemoryError.__name__)


def serious(failed: Mapping[str, str]) -> bool:
    """Whether a failure is one of the run. That another backend needs more memory than the GPU has is
    a result; that the Triton kernels do, or anything else, is a failure.
    """
    return any(
        name.split()[0] in (CASE, OURS) or not out_of_memory(text) for name, text in failed.items()
    )
