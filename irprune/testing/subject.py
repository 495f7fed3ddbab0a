"""What is tested: a module, its op, and a small network around it in which every block is free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from e3nn import o3
from torch import nn

import irprune
from irprune.errors import UsageError
from irprune.graph import EquivariantGraph
from irprune.infer import parse_input
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops.base import OpDef, Site, op_of_class
from irprune.ops.installed import load_ops

Make = Callable[[np.random.Generator], tuple[nn.Module, Mapping[str, str]]]
"""Makes a module, and the types of its operands in the order of ``forward``."""


def random_irreps(
    rng: np.random.Generator, lmax: int = 2, mul: int = 4, segments: int = 3, parity: bool = True
) -> str:
    """Irreps such as ``2x1o+4x0e+1x0e``: up to ``segments`` terms, in any order, also repeated."""
    terms = [
        f"{rng.integers(1, mul + 1)}x{rng.integers(0, lmax + 1)}"
        f"{'eo'[rng.integers(0, 2)] if parity else 'e'}"
        for _ in range(rng.integers(1, segments + 1))
    ]
    return "+".join(terms)


NODE, PATH = "inner_op", "inner.op"
"""The node and the module of the op in both graphs."""


class Around(nn.Module):
    """A linear map before every operand with irreps and one behind the result."""

    def __init__(self, op: nn.Module, inputs: Mapping[str, IrrepsType | Any], out: Any) -> None:
        super().__init__()
        self.op = op
        self.before = nn.ModuleList(_linear(t) for t in inputs.values())
        self.behind = _linear(out)

    def forward(self, operands: Mapping[str, Any]) -> Any:
        moved = (f(x) for f, x in zip(self.before, operands.values(), strict=True))
        return self.behind(self.op(*moved))


class Alone(nn.Module):
    """The op and nothing else."""

    def __init__(self, op: nn.Module) -> None:
        super().__init__()
        self.op = op

    def forward(self, operands: Mapping[str, Any]) -> Any:
        return self.op(*operands.values())


def _linear(t: Any) -> nn.Module:
    """A linear map from irreps to the same irreps, in whichever flat layout."""
    if not isinstance(t, IrrepsType) or not t.is_flat:
        return nn.Identity()
    linear = o3.Linear(t.irreps, t.irreps)
    if t.layout is Layout.MUL_IR:
        return linear
    from irprune.ops.cueq.transpose import transposition

    mul_ir, ir_mul = Layout.MUL_IR, Layout.IR_MUL
    there, back = (transposition(t.irreps, *ab) for ab in ((ir_mul, mul_ir), (mul_ir, ir_mul)))
    return nn.Sequential(there, linear, back)


@dataclass(frozen=True)
class Subject:
    """A module under test in float64, and what irprune makes of it."""

    module: nn.Module
    inputs: Mapping[str, str]
    seed: int

    @cached_property
    def op(self) -> OpDef:
        load_ops()
        op = op_of_class(type(self.module))
        if op is None:
            cls = f"{type(self.module).__module__}.{type(self.module).__qualname__}"
            raise UsageError(f"no op is registered for {cls}")
        return op

    @cached_property
    def alone(self) -> EquivariantGraph:
        """The graph of the module itself."""
        return irprune.trace(Alone(self.module), {"operands": self.inputs})

    @property
    def site(self) -> Site:
        return self.alone.sites[NODE]

    @cached_property
    def network(self) -> EquivariantGraph:
        """The graph with a linear map on every side, so that all blocks can go."""
        types = {n: parse_input(n, t) for n, t in self.inputs.items()}
        around = Around(self.module, types, self.site.out).double()
        return irprune.trace(around, {"operands": self.inputs})

    def operands(self, rows: int = 0) -> tuple[Any, ...]:
        """Random operands of the module; ``rows`` more of each kind."""
        return tuple(self.alone.example(seed=self.seed, grow=rows))

    def mask(self, share: float) -> BoolMask:
        """A legal mask of the network without a share of its groups."""
        blocks = self.network.blocks
        rng = np.random.default_rng(self.seed)
        groups = np.array([c for a in self.network.axes() for c in a.groups], np.int64)
        removed = np.zeros(blocks.n_classes, bool)
        removed[groups[rng.random(len(groups)) < share]] = True
        return blocks.without(removed)


def subject(make: Make, seed: int) -> Subject:
    """A module of random shape, with random parameters, in evaluation mode and float64."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        module, inputs = make(rng)
    finally:
        torch.set_default_dtype(before)
    module = module.double().eval()
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()
    return Subject(module, dict(inputs), seed)
