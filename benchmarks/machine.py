"""Where and when a result was measured; nothing that names the machine or its folders."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.problems import ROOT
from irprune.devices import processors


def cpu_name() -> str:
    """The model name of the first processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def load_average() -> list[float]:
    """Over 1, 5 and 15 minutes."""
    return [round(x, 2) for x in os.getloadavg()]


def today() -> str:
    """The date in UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def machine() -> dict[str, Any]:
    """CPU, cores, architecture, operating system."""
    return {
        "cpu": cpu_name(),
        "cores": processors(),
        "arch": platform.machine(),
        "system": platform.system(),
    }


def commit() -> dict[str, Any]:
    """The commit checked out, and whether tracked files differ; None where git knows none."""
    head = _git("rev-parse", "HEAD")
    if not head:
        return {"hash": None, "dirty": None}
    return {"hash": head, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def stamp(benchmark: str, command: str) -> dict[str, Any]:
    """What every result begins with: what was run, when, where, and on which versions."""
    from irprune.versions import versions

    return {
        "schema": 1,
        "benchmark": benchmark,
        "date": today(),
        "commit": commit(),
        "command": command,
        "machine": machine(),
        "load_average": load_average(),
        "versions": versions(),
    }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
