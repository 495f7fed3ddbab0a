"""The most memory that the process holds while something runs, as Linux counts it. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
"""Writing 5 to it makes the peak of the resident memory what is resident now."""


@dataclass
class PeakMemory:
    """A context that measures; ``peak`` and ``added`` are known afterwards.

    Both are bytes of resident memory. They are None where the system cannot tell: other systems than
    Linux, and containers that keep a process from resetting its own peak.
    """

    peak: int | None = None
    """The most that was resident meanwhile."""
    added: int | None = None
    """By how much that is more than at the start."""
    _start: int | None = None

    def __enter__(self) -> PeakMemory:
        try:
            CLEAR.write_text("5")
        except OSError:
            return self
        self._start = _kilobytes("VmRSS")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        most = _kilobytes("VmHWM") if self._start is not None else None
        if most is not None and self._start is not None:
            self.peak = 1024 * most
            self.added = 1024 * max(most - self._start, 0)


def _kilobytes(key: str) -> int | None:
    try:
        found = re.search(rf"^{key}:\s*(\d+) kB", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found.group(1))
