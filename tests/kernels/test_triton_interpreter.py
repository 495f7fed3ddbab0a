"""Runs the tests of the Triton kernels in Triton's interpreter, one process per file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreter"
FILES = sorted(p.name for p in FOLDER.glob("test_*.py"))


@pytest.mark.parametrize("name", FILES)
def test_in_the_interpreter(name, repo):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(FOLDER / name)]
    env = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    env = {k: v for k, v in env.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=repo, env=env, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted is not None
    assert int(counted[1]) >= 5
    assert "skipped" not in done.stdout


def test_elsewhere_these_files_are_not_collected(repo):
    assert os.environ.get("TRITON_INTERPRET") != "1"
    assert FILES
