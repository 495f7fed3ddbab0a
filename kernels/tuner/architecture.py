"""GPU architectures by name, and how many programs of a size one multiprocessor holds.

Limits are those of the vendors' tables: CUDA's "technical specifications per compute capability", and
for AMD the CDNA 2 and 3 instruction set guides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch

from irprune.errors import UsageError

KIB = 1024
RESERVED = 1 * KIB
"""Bytes of shared memory that CUDA keeps for itself per block, from sm_80 on."""


@dataclass(frozen=True)
class Architecture:
    """What a compiler and an estimate of occupancy need to know of a GPU."""

    name: str
    """As the vendor writes it: ``sm_90``, ``gfx942``."""
    warp: int
    warps: int
    """Warps that a multiprocessor holds."""
    blocks: int
    """Programs that it holds."""
    shared: int
    """Bytes of shared memory of a multiprocessor."""
    registers: int = 65536
    """Registers of 32 bits of a multiprocessor."""
    granule: int = 256
    """Registers are given to a warp in multiples of this number."""

    @property
    def is_amd(self) -> bool:
        return self.name.startswith("gfx")

    def target(self) -> Any:
        """Triton's name of it."""
        from triton.backends.compiler import GPUTarget

        if self.is_amd:
            return GPUTarget("hip", self.name, self.warp)
        return GPUTarget("cuda", int(self.name.removeprefix("sm_")), self.warp)

    def occupancy(self, registers: int, shared: int, warps: int) -> float:
        """Share of the warps of a multiprocessor that programs of this size fill, 0 if none fits.

        Args:
            registers: of a thread.
            shared: bytes of a program.
            warps: of a program.
        """
        per_warp = -(-max(registers, 1) * self.warp // self.granule) * self.granule
        fitting = [self.blocks, self.warps // warps, self.registers // per_warp // warps]
        if shared:
            fitting.append(self.shared // (shared + (0 if self.is_amd else RESERVED)))
        return min(fitting) * warps / self.warps


def _nvidia(capability: int, warps: int, blocks: int, shared: int) -> Architecture:
    return Architecture(f"sm_{capability}", 32, warps, blocks, shared * KIB)


def _amd(name: str) -> Architecture:
    """CDNA: four SIMDs of eight waves, each with 512 vector registers per lane."""
    return Architecture(name, 64, 32, 32, 64 * KIB, registers=4 * 512 * 64, granule=8 * 64)


ARCHITECTURES = {
    a.name: a
    for a in (
        _nvidia(75, 32, 16, 64),
        _nvidia(80, 64, 32, 164),
        _nvidia(86, 48, 16, 100),
        _nvidia(87, 48, 16, 164),
        _nvidia(89, 48, 24, 100),
        _nvidia(90, 64, 32, 228),
        _nvidia(100, 64, 32, 228),
        _nvidia(103, 64, 32, 228),
        _nvidia(120, 48, 24, 100),
        _amd("gfx90a"),
        _amd("gfx942"),
    )
}


def architecture_named(name: str) -> Architecture:
    """An architecture by name.

    Raises:
        UsageError: it is not known; lists those that are.
    """
    if name not in ARCHITECTURES:
        raise UsageError(
            f"no GPU architecture is called {name!r}; known are {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def architecture_of(device: torch.device) -> Architecture:
    """The architecture of a GPU of this machine.

    Raises:
        UsageError: one that is not known.
    """
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return architecture_named(re.sub(r":.*", "", properties.gcnArchName))
    return architecture_named(f"sm_{properties.major}{properties.minor}")
