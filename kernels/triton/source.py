"""Source: one generated Triton kernel with all that is needed to compile it for an architecture.

``sources`` gives every kernel of a spec: values and derivatives. A tuner compiles them without a GPU
(``irprune.kernels.tuner.compile``).
"""

from __future__ import annotations

import functools
import hashlib
import linecache
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from irprune.kernels.triton.config import Config, legal
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
}
"""Triton's names of pointers to the dtypes that kernels take."""

INDEX = "*i64"

SUMS = {torch.float32: "tl.float32", torch.float64: "tl.float64"}
"""Triton's names of the dtypes that kernels add up in."""


@dataclass(frozen=True)
class Text:
    """The text of a kernel before triton sees it: a function ``name`` of ``parameters``."""

    name: str
    parameters: tuple[tuple[str, str], ...]
    """(name, kind) in order; kind is ``operand`` (the dtype of the operands), ``sum`` (the dtype of
    sums, where atomics add) or ``index`` (int64)."""
    body: tuple[str, ...]
    blocks: int
    """Programs along the second axis of the grid."""

    @property
    def pipelined(self) -> bool:
        """Whether it has a loop whose loads may be in flight together; else there is one stage."""
        return any("num_stages=STAGES" in line for line in self.body)

    def __str__(self) -> str:
        names = ", ".join(name for name, _ in self.parameters)
        fixed = [name for name, kind in self.parameters if kind == "index"]
        return "\n".join(
            [
                "import triton",
                "import triton.language as tl",
                "",
                "",
                f"@triton.jit(do_not_specialize={fixed}, do_not_specialize_on_alignment={fixed})",
                f"def {self.name}({names}, BLOCK: tl.constexpr, STAGES: tl.constexpr):",
                *(f"    {line}" for line in self.body),
                "",
            ]
        )


@dataclass(frozen=True, eq=False)
class Source:
    """One kernel: what ``triton.compiler.ASTSource`` and a launch need."""

    name: str
    """Of a PathSpec: ``forward_0``, ``features_0`` (gradient by features), ``edges`` (by harmonics
    and weights); the number is that of a group of segments that share results. Of a PolySpec: the
    names of ``polynomial.KINDS``."""
    fn: Any
    """The function under ``triton.jit``."""
    signature: dict[str, str]
    constexprs: dict[str, int]
    options: dict[str, int | bool]
    """How it is compiled; given to ``triton.compile`` and to launches alike."""
    blocks: int
    """Programs along the second axis of the grid; the first counts nodes, edges or rows."""
    text: str


@functools.lru_cache(maxsize=1024)
def sources(spec: PathSpec | PolySpec, config: Config, dtype: torch.dtype) -> tuple[Source, ...]:
    """Every kernel of a spec in one configuration.

    Raises:
        UsageError: the configuration is not legal for the spec.
        KeyError: a dtype that kernels do not take.
    """
    from irprune.kernels.triton import convolution, polynomial

    legal(spec, config)
    if isinstance(spec, PolySpec):
        texts = polynomial.texts(spec, config, accumulator(dtype))
    else:
        texts = convolution.texts(spec, config, accumulator(dtype))
    return tuple(compiled_text(text, config, dtype) for text in texts)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums: float32 for all but float64."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def compiled_text(text: Text, config: Config, dtype: torch.dtype) -> Source:
    """One kernel with what its compilation and its launch need."""
    kinds = {"operand": POINTERS[dtype], "sum": POINTERS[accumulator(dtype)], "index": INDEX}
    stages = config.stages if text.pipelined else 1
    constexprs = {"BLOCK": config.block, "STAGES": stages}
    signature = {name: kinds[kind] for name, kind in text.parameters}
    return Source(
        name=text.name,
        fn=jit(text.name, str(text)),
        signature={**signature, **dict.fromkeys(constexprs, "constexpr")},
        constexprs=constexprs,
        options={
            "num_warps": config.warps,
            "num_stages": stages,
            "enable_fp_fusion": True,
        },
        blocks=text.blocks,
        text=str(text),
    )


@functools.lru_cache(maxsize=1024)
def jit(name: str, text: str) -> Any:
    """The function of a text under ``triton.jit``.

    Triton reads the source of a function again through ``inspect``; ``linecache`` answers, so that no
    file is written.
    """
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    filename = f"<irprune triton {name} {key}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {"__name__": "irprune.kernels.triton.generated"}
    exec(compile(text, filename, "exec"), namespace)
    return namespace[name]


def index_by_name(found: Sequence[Source]) -> Mapping[str, Source]:
    """Sources by name."""
    return {s.name: s for s in found}
