"""Compilers beside each other: processes that each compile one configuration at a time.

Triton keeps what they compile in its cache on disk, where a later launch finds it.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, TimeoutError, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from irprune.errors import IrpruneError

R = TypeVar("R")


class CompilerDied(IrpruneError):
    """A process ended while it compiled."""


def in_processes(
    work: Callable[..., R],
    given: Mapping[str, tuple[object, ...]],
    jobs: int,
    seconds: float | None = None,
) -> Iterator[tuple[str, R]]:
    """``work(*arguments)`` for each of ``given``, so many at once: (name, result) as they end.

    With one job, or one thing to do, it is done here and in order. Processes begin afresh: ``work``
    and its arguments must be picklable, and a script that comes here needs the usual guard of
    ``__main__``. Whoever stops listening, or is interrupted, stops what runs.

    Args:
        work: a function of a module.
        given: the arguments of every call, by a name for messages.
        jobs: processes at most.
        seconds: after which processes are stopped, and the rest is left.

    Raises:
        CompilerDied: a process ended, as where a compiler crashes; names what may have been in it.
    """
    if jobs == 1 or len(given) < 2:
        yield from ((name, work(*arguments)) for name, arguments in given.items())
        return
    waiting = list(given)
    try:
        futures = _submit(work, given, jobs)
        for future in as_completed(futures, timeout=seconds):
            made = future.result()
            waiting.remove(futures[future])
            yield futures[future], made
    except TimeoutError:
        return
    except BrokenProcessPool as error:
        raise CompilerDied(
            "a process that compiled kernels ended, as where a compiler crashes, memory does not"
            " suffice, or a script has no guard of __main__; it had one of these:"
            f" {'; '.join(waiting[: 2 * jobs])}"
        ) from error
    finally:
        if waiting:
            _stop(jobs)


def _submit(
    work: Callable[..., R], given: Mapping[str, tuple[object, ...]], jobs: int
) -> dict[Future[R], str]:
    """Hands out the work; to new processes where one has ended since the last time."""
    try:
        return {_pool(jobs).submit(work, *arguments): name for name, arguments in given.items()}
    except BrokenProcessPool:
        _stop(jobs)
        return {_pool(jobs).submit(work, *arguments): name for name, arguments in given.items()}


@functools.cache
def _pool(jobs: int) -> ProcessPoolExecutor:
    """Kept for the life of this process: a new one imports torch and triton in each of its own."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_interrupts)


def _stop(jobs: int) -> None:
    """Ends the processes, with what runs in them; the next work has new ones."""
    pool = _pool(jobs)
    _pool.cache_clear()
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _leave_interrupts() -> None:
    """A key that interrupts is for the process that began the work, which stops the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
