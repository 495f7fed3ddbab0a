"""A GPU that is this processor, and whose timer tells what it is told."""

from __future__ import annotations

import torch

from benchmarks.gpu.device import Device


def told(call):
    """Every call takes half a second."""
    call()
    return 0.5


def fake_gpu() -> Device:
    return Device("a fake GPU", torch.device("cpu"), told, 1e9)
