"""irprune: an optimizing compiler for SO(3)-equivariant atomistic models.

The names below load on first use, so that ``import irprune`` stays cheap and imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irprune.api import calculator, evaluate, load, optimize, potential, prune, run
    from irprune.difference import diff
    from irprune.graph import EquivariantGraph
    from irprune.irreps import IrrepsType
    from irprune.memory import keep_memory
    from irprune.ops.base import OpDef, register_op
    from irprune.passmanager import Pass, Pipeline, register_pass
    from irprune.tracing.trace import trace

__version__ = "0.1.0"

_WHERE = {
    "load": "irprune.api",
    "run": "irprune.api",
    "prune": "irprune.api",
    "optimize": "irprune.api",
    "evaluate": "irprune.api",
    "potential": "irprune.api",
    "calculator": "irprune.api",
    "diff": "irprune.difference",
    "keep_memory": "irprune.memory",
    "trace": "irprune.tracing.trace",
    "EquivariantGraph": "irprune.graph",
    "IrrepsType": "irprune.irreps",
    "OpDef": "irprune.ops.base",
    "register_op": "irprune.ops.base",
    "Pass": "irprune.passmanager",
    "Pipeline": "irprune.passmanager",
    "register_pass": "irprune.passmanager",
}

__all__ = [
    "EquivariantGraph",
    "IrrepsType",
    "OpDef",
    "Pass",
    "Pipeline",
    "calculator",
    "diff",
    "evaluate",
    "keep_memory",
    "load",
    "optimize",
    "potential",
    "prune",
    "register_op",
    "register_pass",
    "run",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'irprune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
