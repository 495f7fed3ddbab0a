"""Small specs, and a compiler that is told what it finds."""

from __future__ import annotations

from types import SimpleNamespace

from irprune.irreps import Segment
from irprune.kernels.tuner.facts import KernelFacts
from irprune.kernels.tuner.stage1 import Candidate
from irprune.specs.path import PathSpec, SpecPath


def scalars(mul: int = 20) -> PathSpec:
    """One path of scalars: blocks of 16 and 32 channels are legal."""
    path = SpecPath(0, 0, 0, 0, 1.0, ((0, 0, 0, 1.0),))
    return PathSpec((Segment(mul, 0, 1),), (Segment(1, 0, 1),), (Segment(mul, 0, 1),), (path,), mul)


def candidate(config, instructions=100.0, occupancy=1.0, rejected=None) -> Candidate:
    facts = KernelFacts("forward_0", 32, 0, 0, occupancy, instructions)
    return Candidate(config, (facts,), rejected)


class Compiler:
    """Counts what it compiles; ``facts`` of a source says what ``read_facts`` finds then."""

    def __init__(self, facts=None, fail=(), error=None):
        self.facts = facts or (lambda source: {})
        self.fail = fail
        self.error = error or RuntimeError("out of\nregisters")
        self.compiled = []

    def __call__(self, source, architecture):
        config = (source.constexprs["BLOCK"], source.constexprs["STAGES"])
        self.compiled.append((source.name, *config))
        if config in self.fail:
            raise self.error
        return SimpleNamespace(source=source)

    def read(self, name, made, architecture, warps, blocks, degree):
        found = {"registers": 32, "shared": 0, "stack": 0, "instructions": 100.0}
        found |= self.facts(made.source)
        occupancy = architecture.occupancy(found["registers"], found["shared"], warps)
        return KernelFacts(name, occupancy=occupancy, **found)
