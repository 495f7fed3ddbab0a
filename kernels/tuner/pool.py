"""Compilers beside each other: processes that each compile one configuration at a time.

Triton keeps what they compile in its cache on disk, where a later launch finds it.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from irprune.errors import IrpruneError

R = TypeVar("R")


class CompilerDied(IrpruneError):
    """A process ended while it compiled."""


def in_processes(
    work: Callable[..., R], given: Mapping[str, tuple[object, ...]], jobs: int
) -> Iterator[tuple[str, R]]:
    """``work(*arguments)`` for each of ``given``, so many at once: (name, result) as they end.

    With one job, or one thing to do, it is done here and in order. Processes begin afresh: ``work``
    and its arguments must be picklable, and a script that comes here needs the usual guard of
    ``__main__``. Whoever stops listening stops what has not begun.

    Args:
        work: a function of a module.
        given: the arguments of every call, by a name for messages.
        jobs: processes at most.

    Raises:
        CompilerDied: a process ended, as where a compiler crashes; names what may have been in it.
    """
    if jobs == 1 or len(given) < 2:
        yield from ((name, work(*arguments)) for name, arguments in given.items())
        return
    pool = _pool(jobs)
    futures = {pool.submit(work, *arguments): name for name, arguments in given.items()}
    waiting = list(given)
    try:
        for future in as_completed(futures):
            made = future.result()
            waiting.remove(futures[future])
            yield futures[future], made
    except BrokenProcessPool as error:
        _pool.cache_clear()
        raise CompilerDied(
            "a process that compiled kernels ended, as where a compiler crashes or memory does not"
            f" suffice; it had one of these: {'; '.join(waiting[: 2 * jobs])}"
        ) from error
    finally:
        for future in futures:
            future.cancel()


@functools.cache
def _pool(jobs: int) -> ProcessPoolExecutor:
    """Kept for the life of this process: a new one imports torch and triton in each of its own."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_interrupts)


def _leave_interrupts() -> None:
    """A key that interrupts is for the process that began the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
