"""Plain functions that stand in a MACE graph where the library's own code cannot be traced."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from irprune.functional import traced_whole


@traced_whole
def pair_item(pair: tuple[Any, Any], index: int) -> Any:
    """One entry of a pair that a module returns."""
    return pair[index]


@traced_whole
def ones_column(rows: Tensor) -> Tensor:
    """[rows, 1] of ones, in dtype and device of ``rows`` [rows, …]."""
    return torch.ones((rows.shape[0], 1), dtype=rows.dtype, device=rows.device)
