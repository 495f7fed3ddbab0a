"""benchmarks/gpu: what is not installed is named before anything is imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from benchmarks.gpu.needs import NEEDED, missing


def test_everything_is_there():
    assert missing() is None


def test_what_is_missing_is_named():
    wanted = {**NEEDED, "no_such_package": "a package", "no_such.part": "another, by pip"}
    assert missing(wanted) == (
        "benchmarks.gpu.run needs what is not installed: a package; another, by pip"
        " (benchmarks/gpu/README.md says how, without a network too)"
    )


def test_from_a_folder_that_is_not_installed(repo, tmp_path):
    """A Python without any package: what a copied repository meets."""
    for name in ("benchmarks", "irprune"):
        shutil.copytree(repo / name, tmp_path / name, ignore=shutil.ignore_patterns("results"))
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-m", "benchmarks.gpu.run", "-o", "out"],
        cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("benchmarks.gpu.run needs what is not installed: torch; triton;")
    assert "from the root of the repository: pip install -e ." in done.stderr
    assert "Traceback" not in done.stderr
