"""Constants that a rebuilt module must share with the original, to the last bit.

A checkpoint made in float32 has Clebsch-Gordan coefficients rounded to float32, also after a cast to
float64. A module rebuilt in float64 would compute better ones, and the two would differ by 1e-8.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from irprune.errors import ExactnessError


@contextlib.contextmanager
def in_dtype_of(module: nn.Module) -> Iterator[None]:
    """Builds modules in the floating-point dtype of ``module``."""
    tensors = [*module.parameters(), *module.buffers()]
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.get_default_dtype())
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def copy_constants(old: nn.Module, new: nn.Module) -> None:
    """Copies the Wigner 3j buffers of ``old`` into ``new``, by name.

    Raises:
        ExactnessError: ``new`` needs a constant that ``old`` does not hold, or of another shape.
    """
    have = {name.rsplit(".", 1)[-1]: b for name, b in old.named_buffers() if "_w3j" in name}
    for name, buffer in new.named_buffers():
        if "_w3j" not in name:
            continue
        source = have.get(name.rsplit(".", 1)[-1])
        if source is None or source.shape != buffer.shape:
            raise ExactnessError(f"the sliced module needs {name}, which the original lacks")
        with torch.no_grad():
            buffer.copy_(source)
