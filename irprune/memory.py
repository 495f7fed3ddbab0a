"""Keeping freed memory in the process, where glibc would give it back to the system at every call."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
LARGEST = 2**31 - 1


def keep_memory() -> bool:
    """Asks glibc to keep what is freed, for the whole process. Returns whether it will.

    A model's call makes tensors of megabytes and frees them. glibc maps each anew, and the system
    fills every page with zeros when it is touched first. Afterwards the process holds on to the memory
    of its largest call. Nothing else in irprune calls this: it is for programs that want it, such as
    molecular dynamics of one system. ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647`` in the
    environment does the same.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another libc
        return False
    return bool(set_option(M_MMAP_MAX, 0) and set_option(M_TRIM_THRESHOLD, LARGEST))
