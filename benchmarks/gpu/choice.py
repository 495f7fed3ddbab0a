"""Which configuration of the Triton kernels stands against the others: the winner of a short race.

A full search takes longer than a run. First the widths, which matter most, and what a table has, else
the default; then what is near the fastest of these.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch

from benchmarks.gpu.device import Device, in_turn
from benchmarks.gpu.failures import OURS
from irprune.kernels.triton.config import STAGES, Config, configs, default, pin
from irprune.kernels.tuner.lookup import chosen
from irprune.kernels.tuner.stage2 import Problem
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

WIDTHS = (32, 64, 128)
"""Channels of a program."""
ROUNDS = 5
Call = Callable[[], object]


def config_of(
    spec: PathSpec | PolySpec, dtype: torch.dtype, device: torch.device, nodes: int, edges: int
) -> Config:
    """What the kernels run with: what is pinned, else what a table has, else the default."""
    rows = edges if isinstance(spec, PathSpec) else nodes
    return chosen(spec, torch.empty(nodes, 0, dtype=dtype, device=device), rows)


def untuned(given: Problem) -> Config:
    """What a table has for a problem, else the default. To be asked while nothing is pinned."""
    x = given.operands[0]
    return config_of(given.spec, x.dtype, x.device, x.shape[0], rows_of(given))


def rows_of(given: Problem) -> int:
    """Edges of a convolution, rows of a polynomial."""
    return given.operands[1 if isinstance(given.spec, PathSpec) else 0].shape[0]


def widths(spec: PathSpec | PolySpec, first: Config) -> list[Config]:
    """What a table has, else the default, and the default variant at every width that is legal."""
    legal = configs(spec)
    usual = default(spec)
    wanted = [first, usual, *(Config(b, 1, 1, usual.variant) for b in WIDTHS)]
    return list(dict.fromkeys(c for c in wanted if c in legal))


def neighbours(spec: PathSpec | PolySpec, best: Config) -> list[Config]:
    """The other depths of loading ahead, and the other variants at its width."""
    legal = configs(spec)
    deeper = [Config(best.block, best.warps, n, best.variant) for n in STAGES]
    others = [c for c in legal if c.variant != best.variant and c.stages == 1]
    others = [c for c in others if (c.block, c.warps) == (best.block, best.warps)]
    return [c for c in deeper + others if c in legal and c != best]


def choose(
    spec: PathSpec | PolySpec,
    dtype: torch.dtype,
    usual: Config,
    call: Call,
    device: Device,
    failed: dict[str, str],
    rounds: int = ROUNDS,
    compiled: Callable[[Config], bool] = lambda _: True,
    left: list[str] | None = None,
) -> Config | None:
    """Times the short list and pins the fastest; None where no configuration runs.

    What is near the fastest width takes part if it is compiled: some of it takes triton minutes.

    Args:
        spec: of the kernels.
        dtype: of the operands.
        usual: what a table has, else the default.
        call: the kernels with gradients, by whatever is pinned.
        device: that runs and times them.
        failed: gets the errors of configurations that do not run.
        rounds: times of each.
        compiled: whether a configuration is.
        left: gets those that took no part.
    """

    def race(found: Sequence[Config]) -> Config | None:
        def pinned(config: Config) -> Call:
            def run() -> object:
                pin(spec, dtype, config)
                return call()

            return run

        by_name = {f"{OURS} {c}": c for c in found}
        calls = {name: pinned(c) for name, c in by_name.items()}
        times = in_turn(calls, device.timer, rounds, failed=failed)
        if not times:
            return None
        return by_name[min(times, key=lambda name: statistics.median(times[name]))]

    first = race(widths(spec, usual))
    if first is None:
        return None
    near = neighbours(spec, first)
    if left is not None:
        left += [str(c) for c in near if not compiled(c)]
    best = race([first, *filter(compiled, near)]) or first
    pin(spec, dtype, best)
    return best
