"""Tests that run Triton kernels on the CPU, in Triton's interpreter.

The variable TRITON_INTERPRET must be set before triton is imported, and then no kernel can be compiled.
So these files are collected only where it is set; tests/kernels/test_triton_interpreter.py runs each in
a process of its own.
"""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]
