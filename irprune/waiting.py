"""When a program may look at the values of a tensor.

On a GPU work is queued. A look at a value (``item``, ``nonzero``, a boolean index) waits until all of
it is done, and cannot be captured in a CUDA graph. What runs at every call asks here first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def would_wait(t: Tensor) -> bool:
    """Whether a look at the values of a tensor waits for its device."""
    return t.is_cuda
