"""Stage 2, on a GPU: the most promising configurations timed in turn.

A time is that of values and all first gradients. Every configuration is compared with the reference
first: one that computes something else is an error, whatever its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from irprune.backends import Reference
from irprune.edges import pack
from irprune.errors import CheckFailed, UsageError
from irprune.kernels.triton.config import Config
from irprune.kernels.tuner.entry import Timed
from irprune.passmanager import Progress, no_progress
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

Call = Callable[[], object]
Timer = Callable[[Call], float]
"""Seconds that one call takes on the device."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest difference from the reference in float64, of the largest number of it."""
EDGES = 200_000
"""Edges of the problem that is timed: enough to fill a large GPU."""
ELEMENTS = 4
"""Rows of weights of a polynomial that is timed."""
CHECKED = 500
"""Edges (rows, of a polynomial) of the problem that is checked: in float64, by a reference that keeps
every product of every path."""
CLOCK = 2e9
"""Cycles per second of a GPU, about; a sleep that is somewhat longer or shorter does no harm."""
LONGEST = 0.02
"""Seconds that the host takes for a call at most; the first one compiles, and takes longer."""
FLUSH = 256 * 1024 * 1024
"""Bytes written before a call is timed, so that its operands are not in the cache of the GPU."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Operands of a spec: of a convolution (x, y, w) and the packed edges of a graph whose nodes all
    have the same number of them; of a polynomial (x, w) and the row of w of every node.
    """

    spec: PathSpec | PolySpec
    operands: tuple[Tensor, ...]
    index: Tensor

    def exact(self) -> Problem:
        """The same numbers in float64."""
        made = tuple(t.detach().double().requires_grad_() for t in self.operands)
        return Problem(self.spec, made, self.index)


def problem(
    spec: PathSpec | PolySpec,
    dtype: torch.dtype,
    device: torch.device,
    degree: int,
    count: int = EDGES,
    seed: int = 0,
) -> Problem:
    """Random numbers for ``count`` edges (rows, of a polynomial).

    Senders are near their receivers, as in a structure whose atoms are sorted.
    """
    g = torch.Generator().manual_seed(seed)

    def numbers(*size: int) -> Tensor:
        return torch.randn(*size, generator=g).to(device, dtype).requires_grad_()

    if isinstance(spec, PolySpec):
        which = torch.randint(ELEMENTS, (count,), generator=g).to(device)
        x = numbers(count, spec.dims[0] * spec.channels)
        return Problem(spec, (x, numbers(ELEMENTS, spec.n_paths, spec.channels)), which)
    nodes = max(count // degree, 2)
    receiver = torch.arange(nodes).repeat_interleave(degree)
    near = torch.randint(1, min(nodes, 4 * degree + 1), receiver.shape, generator=g)
    sender = (receiver + near) % nodes
    edges = pack(sender.to(device), receiver.to(device), nodes)
    x, y = numbers(nodes, spec.dims[0]), numbers(len(receiver), spec.dims[1])
    return Problem(spec, (x, y, numbers(len(receiver), spec.n_weights)), edges)


def triton_call(given: Problem, config: Config) -> Callable[[], tuple[Tensor, ...]]:
    """A call that gives values and gradients by one configuration of the Triton kernels."""
    from irprune.kernels.triton.backend import Triton
    from irprune.kernels.triton.config import pin

    kernel = Triton().kernel(given.spec)

    def call() -> tuple[Tensor, ...]:
        pin(given.spec, given.operands[0].dtype, config)
        return with_gradients(kernel, given)

    return call


def with_gradients(kernel: Callable[..., Tensor], given: Problem) -> tuple[Tensor, ...]:
    """Values, and the gradients of their product with fixed numbers by every operand."""
    made = kernel(*given.operands, given.index)
    g = torch.linspace(-1, 1, made.numel(), device=made.device, dtype=made.dtype).view_as(made)
    return made.detach(), *torch.autograd.grad(made, given.operands, g)


def reference(given: Problem) -> tuple[Tensor, ...]:
    """Values and gradients as the spec itself evaluates them, in float64."""
    return with_gradients(Reference().kernel(given.spec), given.exact())


def check(
    given: Problem, made: Sequence[Tensor], expected: Sequence[Tensor], config: Config
) -> None:
    """Compares values and gradients with those of the reference.

    Raises:
        CheckFailed: they differ; names the configuration.
    """
    tolerance = TOLERANCE[given.operands[0].dtype]
    for i, (a, b) in enumerate(zip(made, expected, strict=True)):
        error = float((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-30))
        if not error <= tolerance:
            what = f"another gradient by operand {i - 1}" if i else "other values"
            raise CheckFailed(
                f"the Triton configuration {config} gives {what} than {given.spec.key} says: they"
                f" differ by {error:.2g} of the largest, tolerance {tolerance:.2g}"
            )


class CudaTimer:
    """Times calls with events of the GPU, its cache flushed before each.

    The GPU is kept busy while the host queues the call, as long as the slowest call before took the
    host: else a short kernel is timed by how fast the host launches it. The first call has no lead.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda" or not torch.cuda.is_available():
            raise UsageError(f"stage 2 of the tuner times on a GPU, but the device is {device}")
        self.device = device
        self.flush = torch.empty(FLUSH, dtype=torch.int8, device=device)
        self.lead = 0.0

    def __call__(self, call: Call) -> float:
        with torch.cuda.device(self.device):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self.flush.zero_()
            torch.cuda._sleep(int(1.5 * self.lead * CLOCK))
            begin.record()
            start = time.perf_counter()
            call()
            self.lead = max(self.lead, min(time.perf_counter() - start, LONGEST))
            end.record()
            end.synchronize()
        return float(begin.elapsed_time(end)) / 1000


def race(
    calls: Sequence[tuple[Config, Call]],
    timer: Timer,
    rounds: int,
    warmup: int = 2,
    progress: Progress = no_progress,
) -> tuple[Timed, ...]:
    """Times every configuration once per round; every round starts with another.

    What slows the GPU for a while slows all of a round. The fastest by median comes first.
    """
    for i, (config, call) in enumerate(calls):
        progress(f"warm up {config}", i, len(calls))
        for _ in range(warmup):
            timer(call)
    times: list[list[float]] = [[] for _ in calls]
    for k in range(rounds):
        progress("time", k, rounds)
        for j in range(len(calls)):
            i = (j + k) % len(calls)
            times[i].append(timer(calls[i][1]))
    found = [Timed(c, tuple(t)) for (c, _), t in zip(calls, times, strict=True)]
    return tuple(sorted(found, key=lambda t: t.median))
