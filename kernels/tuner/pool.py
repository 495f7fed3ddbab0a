"""Compilers beside each other: processes that each compile one configuration at a time.

Triton keeps what they compile in its cache on disk, where a later launch finds it.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, TimeoutError, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import TypeVar

from irprune.tuning import TuneError

R = TypeVar("R")


class CompilerDied(TuneError):
    """A process ended while it compiled."""


def in_processes(
    work: Callable[..., R],
    given: Iterable[tuple[str, tuple[object, ...]]],
    jobs: int,
    seconds: float | None = None,
) -> Iterator[tuple[str, R]]:
    """``work(*arguments)`` for each of ``given``, so many at once: (name, result) as they end.

    With one job it is done here and in order. Processes begin afresh: ``work`` and its arguments must
    be picklable, and a script that comes here needs the usual guard of ``__main__``. Whoever stops
    listening, is interrupted or is killed stops what runs.

    Args:
        work: a function of a module.
        given: a name for messages and the arguments of every call; the first ones run while the last
            ones are made.
        jobs: processes at most.
        seconds: after which processes are stopped, and the rest is left. With one job what has begun is
            done to its end.

    Raises:
        CompilerDied: a process ended, as where a compiler crashes; names what may have been in it.
    """
    start = time.monotonic()

    def left() -> float | None:
        return None if seconds is None else max(seconds - (time.monotonic() - start), 0.0)

    if jobs == 1:
        for name, arguments in given:
            if left() == 0.0:
                return
            yield name, work(*arguments)
        return
    if not all(p.is_alive() for p in _processes(jobs)):  # one has ended since the last time
        _stop(jobs)
    futures: dict[Future[R], str] = {}
    stop = True
    try:
        for name, arguments in given:
            if left() == 0.0:
                return
            futures[_pool(jobs).submit(work, *arguments)] = name
        for future in _until(futures, left()):
            yield futures[future], future.result()
        stop = not all(f.done() for f in futures)
    except BrokenProcessPool as error:
        lost = [name for future, name in futures.items() if not _made(future)]
        raise CompilerDied(
            "a process that compiled kernels ended, as where a compiler crashes, memory does not"
            " suffice, or a script has no guard of __main__; it had one of these:"
            f" {'; '.join(lost[: 2 * jobs])}"
        ) from error
    finally:
        if stop:  # something is left, or was raised, or nobody listens
            _stop(jobs)


def _made(future: Future[R]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _until(futures: Iterable[Future[R]], seconds: float | None) -> Iterator[Future[R]]:
    """As they end, until the time does."""
    try:
        yield from as_completed(futures, timeout=seconds)
    except TimeoutError:  # that of the time: an error of the work is in its future
        return


@functools.cache
def _pool(jobs: int) -> ProcessPoolExecutor:
    """Kept for the life of this process: a new one imports torch and triton in each of its own."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin)


def _processes(jobs: int) -> list[BaseProcess]:
    return list((_pool(jobs)._processes or {}).values())


def _stop(jobs: int) -> None:
    """Ends the processes, with the assemblers that they started; the next work has new ones."""
    pool, processes = _pool(jobs), _processes(jobs)
    _pool.cache_clear()
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
        if process.pid is not None and hasattr(os, "killpg"):
            with suppress(OSError):  # it has ended, or not begun
                os.killpg(process.pid, signal.SIGTERM)


def _begin() -> None:
    """What a process starts ends with it: they are a group. It ends itself when the one that began the
    work is gone, however that went. A key that interrupts is for that one, which stops the others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
