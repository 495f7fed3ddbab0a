"""Passes with a fold removed, for what finds such passes. Registered by a fixture, in tests alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from irprune import passbase
from irprune.errors import ExactnessError
from irprune.passbase import Pass, register_pass
from irprune.passes import fuse_linear
from irprune.passes.slice import Slice


@dataclass(frozen=True)
class Unfolded(fuse_linear.FuseLinear):
    """fuse-linear that loses the constant factors before and after a map."""

    name: ClassVar[str] = "t-fuse-linear"

    def run(self, graph, context):
        real = fuse_linear.block_linear
        fuse_linear.block_linear = lambda m, before=1.0, after=1.0: real(m)
        try:
            return super().run(graph, context)
        finally:
            fuse_linear.block_linear = real


@dataclass(frozen=True)
class WrongSlice(Slice):
    """Slice that loses the factor √(n/5) of the map ``c`` where it has lost inputs."""

    name: ClassVar[str] = "t-slice"

    def run(self, graph, context):
        made = super().run(graph, context)
        gm = copy.deepcopy(made.gm)
        left = gm.get_submodule("c").irreps_in.dim
        with torch.no_grad():
            gm.get_submodule("c").weight.mul_((left / 5) ** -0.5)
        return made.replace(gm=gm)


@dataclass(frozen=True)
class Raises(Pass):
    """A pass that gives up on a graph with a tanh."""

    name: ClassVar[str] = "t-raises"
    summary: ClassVar[str] = "gives up on tanh"
    trait: ClassVar[str] = "exact"

    def run(self, graph, context):
        if "scalar-function" in str(graph):
            raise ExactnessError("tanh is too much")
        return graph


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passbase, "_registered", dict(passbase._registered))
    for cls in (Unfolded, WrongSlice, Raises):
        register_pass(cls)
