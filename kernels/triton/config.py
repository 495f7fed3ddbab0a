"""Config: how one family of Triton kernels is laid out on the device, and which ones are legal.

Neither triton nor a device is needed here. A tuner ranks ``configs(spec)`` and makes its winner known
with ``pin``; the operators ask ``config_for``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from irprune.errors import UsageError
from irprune.irreps import Layout
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

REVISION = 3
"""Changes whenever generated sources change: caches of measured times go by it."""

BLOCKS = (16, 32, 64, 128)
WARPS = (1, 2, 4)
STAGES = (1, 2, 3)
VARIANTS = {PathSpec: ("csr", "atomic"), PolySpec: ("rows",)}
"""``csr``: a program sums all edges of a node. ``atomic``: a program adds one edge to its node.
``rows``: a program is one node."""

LANES = 32


@dataclass(frozen=True)
class Config:
    """Layout of the programs of one spec."""

    block: int
    """Channels of a program."""
    warps: int
    stages: int
    """Edges whose loads are in flight at once. 1: only where the next edge lies is read ahead."""
    variant: str

    def __str__(self) -> str:
        return f"block={self.block},warps={self.warps},stages={self.stages},variant={self.variant}"

    @classmethod
    def parse(cls, text: str) -> Config:
        """The inverse of ``str``.

        Raises:
            UsageError: the text is not what ``str`` writes.
        """
        given = dict(part.partition("=")[::2] for part in text.split(","))
        try:
            made = cls(
                int(given["block"]), int(given["warps"]), int(given["stages"]), given["variant"]
            )
        except (KeyError, ValueError):
            made = None
        if made is None or str(made) != text:
            raise UsageError(
                f"{text!r} is no Triton configuration; expected"
                " 'block=B,warps=W,stages=S,variant=V'"
            )
        return made


def deterministic(config: Config) -> bool:
    """Whether sums have one order, so that results are the same in every run: no atomic additions."""
    return config.variant != "atomic"


def configs(spec: PathSpec | PolySpec) -> tuple[Config, ...]:
    """All legal configurations of a spec.

    A block is no wider than the widest segment needs, and has a channel for every lane of its warps.
    A program of one edge or of one row has no loop, hence one stage.
    """
    width = widest(spec)
    blocks = [b for b in BLOCKS if b == BLOCKS[0] or b < 2 * width]
    found = []
    for variant in VARIANTS[type(spec)]:
        for block in blocks:
            for warps in WARPS:
                if warps > 1 and warps * LANES > block:
                    continue
                stages = STAGES if variant == "csr" else STAGES[:1]
                found += [Config(block, warps, n, variant) for n in stages]
    return tuple(found)


def shallow(spec: PathSpec | PolySpec) -> tuple[Config, ...]:
    """Those of one stage, each of which stands for its ``deeper`` ones."""
    return tuple(c for c in configs(spec) if c.stages == 1)


def deeper(spec: PathSpec | PolySpec, config: Config) -> tuple[Config, ...]:
    """The same layout with loads of more edges in flight."""
    found = (replace(config, stages=n) for n in STAGES if n > config.stages)
    legal = configs(spec)
    return tuple(c for c in found if c in legal)


def widest(spec: PathSpec | PolySpec) -> int:
    """Channels of the widest segment that takes part."""
    if isinstance(spec, PolySpec):
        return spec.channels
    return max((spec.in1[p.i1].mul for p in spec.paths), default=1)


def default(spec: PathSpec | PolySpec) -> Config:
    """What is taken where nothing is known: sums in registers, one warp, 32 channels."""
    variant = VARIANTS[type(spec)][0]
    fitting = [c for c in configs(spec) if c.variant == variant and c.warps == 1 and c.stages == 1]
    return max((c for c in fitting if c.block <= LANES), key=lambda c: c.block)


def kernel_key(spec: PathSpec | PolySpec) -> str:
    """The key of the kernels of a spec: they are the same in both layouts."""
    if spec.layout is Layout.MUL_IR:
        return spec.key
    if spec.key not in _OTHERS:
        _OTHERS[spec.key] = spec.in_layout(Layout.MUL_IR).key
    return _OTHERS[spec.key]


_OTHERS: dict[str, str] = {}
"""Keys of specs in ``ir_mul`` → those of the same in ``mul_ir``; asked at every call."""
_PINNED: dict[tuple[str, torch.dtype], Config] = {}


def pin(spec: PathSpec | PolySpec, dtype: torch.dtype, config: Config) -> None:
    """Makes the operators use a configuration for a spec and dtype, in this process.

    Raises:
        UsageError: the configuration is not legal for the spec.
    """
    _PINNED[kernel_key(spec), dtype] = legal(spec, config)


def unpin(spec: PathSpec | PolySpec, dtype: torch.dtype) -> None:
    """Takes back what was pinned for a spec and dtype."""
    _PINNED.pop((kernel_key(spec), dtype), None)


@contextmanager
def own_pins() -> Iterator[None]:
    """Nothing is pinned inside; what was pinned outside is again afterwards, and nothing else."""
    before = dict(_PINNED)
    _PINNED.clear()
    try:
        yield
    finally:
        _PINNED.clear()
        _PINNED.update(before)


def pinned(spec: PathSpec | PolySpec, dtype: torch.dtype) -> bool:
    """Whether this process has been told what to use."""
    return (kernel_key(spec), dtype) in _PINNED


def config_for(spec: PathSpec | PolySpec, dtype: torch.dtype) -> Config:
    """The pinned configuration, else the default one."""
    return _PINNED.get((kernel_key(spec), dtype)) or default(spec)


def legal(spec: PathSpec | PolySpec, config: Config) -> Config:
    """The configuration itself.

    Raises:
        UsageError: it is not among those of the spec.
    """
    if config not in configs(spec):
        raise UsageError(
            f"the Triton configuration {config} is not legal for {spec.key}: its widest segment has"
            f" {widest(spec)} channels; see irprune.kernels.triton.config.configs"
        )
    return config
