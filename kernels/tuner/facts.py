"""What a compiled kernel needs: registers, shared memory, stack, and instructions per edge."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from irprune.errors import IrpruneError
from irprune.kernels.tuner.architecture import Architecture

TOOL = "cuobjdump"
_LABEL = re.compile(r"^\s*([$.\w]+):")
_BRANCH = re.compile(r"\b(?:bra(?:\.uni)?|s_c?branch\w*)\s+([$.\w]+)")
_INSTRUCTION = re.compile(r"^\s+(?:@!?%p\d+\s+)?(?![.$])[a-z]\w*[\w.]*(?:\s|;|$)")


@dataclass(frozen=True)
class KernelFacts:
    """One compiled kernel."""

    name: str
    registers: int
    """Of a thread."""
    shared: int
    """Bytes of a program."""
    stack: int
    """Bytes of a thread outside of registers: what is spilled shows here."""
    occupancy: float
    instructions: float
    """Warp instructions per edge (per row where there are no edges), over all programs of the edge."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> KernelFacts:
        return cls(
            str(found["name"]),
            int(found["registers"]),
            int(found["shared"]),
            int(found["stack"]),
            float(found["occupancy"]),
            float(found["instructions"]),
        )


def read_facts(
    name: str,
    made: Any,
    architecture: Architecture,
    warps: int,
    blocks: int,
    degree: int,
    at_once: int = 1,
) -> KernelFacts:
    """Reads them from what ``triton.compile`` made.

    Args:
        name: of the kernel.
        made: the compiled kernel.
        architecture: it was compiled for.
        warps: of a program.
        blocks: programs for one node, edge or row.
        degree: edges of a node, over which what stands outside of its loop is spread.
        at_once: edges that a turn of the loop takes.

    Raises:
        IrpruneError: the tool that reads it fails.
    """
    if architecture.is_amd:
        text = made.asm["amdgcn"]
        registers, stack = _amd(text, "vgpr_count"), _amd(text, "private_segment_fixed_size")
        stack += _amd(text, "vgpr_spill_count")
        shared = _amd(text, "group_segment_fixed_size")
    else:
        text = made.asm["ptx"]
        usage = resource_usage(made.asm["cubin"])
        registers, stack = usage["REG"], usage["STACK"] + usage["LOCAL"]
        shared = usage["SHARED"]
    shared = max(shared, int(made.metadata.shared))
    inside, outside = count_instructions(text)
    per_edge = inside / at_once + outside / degree if inside else float(outside)
    return KernelFacts(
        name,
        registers,
        shared,
        stack,
        architecture.occupancy(registers, shared, warps),
        per_edge * warps * blocks,
    )


def resource_usage(cubin: bytes) -> dict[str, int]:
    """REG, STACK, SHARED and LOCAL of the kernel in a cubin, by the tool that triton brings.

    Raises:
        IrpruneError: the tool is not there, fails, or says something else.
    """
    tool = find_tool()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [str(tool), "--dump-resource-usage", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {k: int(v) for k, v in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", done.stdout)}
    if done.returncode or len(found) != 4:
        said = " ".join((done.stderr or done.stdout).split())
        raise IrpruneError(f"{TOOL} cannot read a compiled kernel: {said or 'it says nothing'}")
    return found


def find_tool() -> Path:
    """The cuobjdump of triton's wheel.

    Raises:
        IrpruneError: it is not there.
    """
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / TOOL
    if not tool.is_file():
        raise IrpruneError(f"there is no {tool}; install triton from its wheel, which brings it")
    return tool


def _amd(text: str, key: str) -> int:
    found = re.search(rf"\.{key}:\s*(\d+)", text)
    return int(found[1]) if found else 0


def count_instructions(text: str) -> tuple[int, int]:
    """Instructions of an assembly text (PTX or AMD) inside its largest loop, and outside of it.

    PTX, not what ptxas makes of it: ptxas unrolls loops, so that its loops hold several edges.
    """
    lines = _body(text.splitlines())
    labels = {m[1]: i for i, line in enumerate(lines) if (m := _LABEL.match(line))}
    inside = range(0)
    for i, line in enumerate(lines):
        branch = _BRANCH.search(line)
        start = labels.get(branch[1]) if branch else None
        if start is not None and start < i and i - start > len(inside):
            inside = range(start, i + 1)
    count = [bool(_INSTRUCTION.match(line)) for line in lines]
    within = sum(count[i] for i in inside)
    return within, sum(count) - within


def _body(lines: Sequence[str]) -> Sequence[str]:
    """The lines of the program itself: from its first label or brace to the end of it."""
    start = next((i for i, line in enumerate(lines) if line.startswith("{")), 0)
    stop = next((i for i, line in enumerate(lines) if line.strip().startswith("s_endpgm")), None)
    stop = stop or next((i for i in range(start, len(lines)) if lines[i].startswith("}")), None)
    return lines[start : None if stop is None else stop + 1]
