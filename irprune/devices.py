"""Devices that a user names, tried before any work, and the processors that there are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from irprune.errors import UsageError

if TYPE_CHECKING:
    import torch


def usable_device(name: str | torch.device, what: str) -> torch.device:
    """The device of that name; ``what`` says in the error what was given, such as ``--device cuda``.

    Raises:
        UsageError: torch does not know it, it is not there, or its tensors hold no numbers.
    """
    import torch

    try:
        device = torch.device(name)
        if device.type != "meta":
            torch.zeros(1, device=device).cpu()
    except Exception as error:  # torch raises many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"{what} cannot be used: {reason}; give cpu, cuda or cuda:1") from None
    if device.type == "meta":
        raise UsageError(
            f"{what} cannot be used: its tensors hold no numbers; give cpu, cuda or cuda:1"
        )
    return device


def processors() -> int:
    """Those that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
