"""Stage 2, on a GPU: the most promising configurations timed in turn.

A time is that of values and all first gradients. Every configuration is compared with the reference
first: one that computes something else is an error, whatever its time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from irprune.backends import convolve, remember
from irprune.edges import pack
from irprune.errors import CheckFailed, UsageError
from irprune.kernels.triton.config import Config
from irprune.kernels.tuner.entry import Timed
from irprune.passmanager import Progress, no_progress
from irprune.pathspec import PathSpec

Call = Callable[[], object]
Timer = Callable[[Call], float]
"""Seconds that one call takes on the device."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest difference from the reference in float64, of the largest number of it."""
EDGES = 200_000
"""Edges of the problem that is timed: enough to fill a large GPU."""
FLUSH = 256 * 1024 * 1024
"""Bytes written before a call is timed, so that its operands are not in the cache of the GPU."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Operands of a convolution on a graph in which every node has the same number of edges."""

    spec: PathSpec
    x: Tensor
    y: Tensor
    w: Tensor
    edges: Tensor

    @property
    def operands(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.x, self.y, self.w


def problem(
    spec: PathSpec,
    dtype: torch.dtype,
    device: torch.device,
    degree: int,
    count: int = EDGES,
    seed: int = 0,
) -> Problem:
    """Random numbers, senders near their receivers as in a structure whose atoms are sorted."""
    nodes = max(count // degree, 2)
    g = torch.Generator().manual_seed(seed)
    receiver = torch.arange(nodes).repeat_interleave(degree)
    near = torch.randint(1, min(nodes, 4 * degree), receiver.shape, generator=g)
    sender = (receiver + near) % nodes
    sizes = (nodes, spec.dims[0]), (len(receiver), spec.dims[1]), (len(receiver), spec.n_weights)
    numbers = (torch.randn(*s, generator=g).to(device, dtype) for s in sizes)
    x, y, w = (t.requires_grad_() for t in numbers)
    return Problem(spec, x, y, w, pack(sender.to(device), receiver.to(device), nodes))


def triton_call(given: Problem, config: Config) -> Callable[[], tuple[Tensor, ...]]:
    """A call that gives values and gradients by one configuration of the Triton kernels."""
    from irprune.kernels.triton import ops
    from irprune.kernels.triton.layout import to_ir_mul, to_mul_ir

    key, text = remember(given.spec), str(config)

    def convolution(x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
        made = ops.convolution(to_ir_mul(x, given.spec.in1), y, w, edges, key, text)
        return to_mul_ir(made, given.spec.out)

    return lambda: with_gradients(convolution, given)


def with_gradients(kernel: Callable[..., Tensor], given: Problem) -> tuple[Tensor, ...]:
    """Values, and the gradients of their sum with cosines."""
    made = kernel(*given.operands, given.edges)
    g = torch.linspace(-1, 1, made.numel(), device=made.device, dtype=made.dtype).view_as(made)
    return made.detach(), *torch.autograd.grad(made, given.operands, g)


def check(given: Problem, made: Sequence[Tensor], config: Config) -> None:
    """Compares values and gradients with the spec itself in float64.

    Raises:
        CheckFailed: they differ; names the configuration.
    """
    exact = Problem(
        given.spec, *(t.detach().double().requires_grad_() for t in given.operands), given.edges
    )
    expected = with_gradients(lambda *o: convolve(given.spec, *o), exact)
    names = ("values", "gradient by features", "gradient by harmonics", "gradient by weights")
    for name, a, b in zip(names, made, expected, strict=True):
        error = float((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-30))
        if not error <= TOLERANCE[given.x.dtype]:
            raise CheckFailed(
                f"the Triton configuration {config} computes other {name} than {given.spec.key}"
                f" says: {error:.2g} of the largest, tolerance {TOLERANCE[given.x.dtype]:.2g}"
            )


class CudaTimer:
    """Times calls with events of the GPU, its cache flushed before each."""

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda" or not torch.cuda.is_available():
            raise UsageError(f"stage 2 of the tuner times on a GPU, but the device is {device}")
        self.device = device
        self.flush = torch.empty(FLUSH, dtype=torch.int8, device=device)

    def __call__(self, call: Call) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize(self.device)
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
