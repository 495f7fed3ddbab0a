"""The rule that continuous integration skips nothing, tried on small suites."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

SUITE = """
import pytest
def test_fine(): pass
{body}
"""


def outcome(tmp_path: Path, body: str, *, ci: bool, workers: int = 0) -> tuple[int, str]:
    (tmp_path / "conftest.py").write_text("from tests.noskip import pytest_configure")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu\n  real\n")
    (tmp_path / "test_it.py").write_text(SUITE.format(body=body))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CI": "true" if ci else ""}
    env.pop("PYTEST_XDIST_WORKER", None)
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", str(workers), str(tmp_path)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, found.stdout


PLAIN = "@pytest.mark.real\ndef test_it(): pytest.skip('no data here')"


def test_ci_fails_and_names_the_skip(tmp_path: Path) -> None:
    code, out = outcome(tmp_path, PLAIN, ci=True)
    assert code == 1
    assert "test_it.py::test_it: no data here" in out


def test_elsewhere_a_skip_is_fine(tmp_path: Path) -> None:
    assert outcome(tmp_path, PLAIN, ci=False)[0] == 0


def test_hardware_may_be_missing(tmp_path: Path) -> None:
    body = "@pytest.mark.gpu\n@pytest.mark.skipif(True, reason='no GPU')\ndef test_it(): pass"
    assert outcome(tmp_path, body, ci=True)[0] == 0


def test_a_skip_without_a_reason_always_fails(tmp_path: Path) -> None:
    code, out = outcome(tmp_path, "@pytest.mark.skip\ndef test_it(): pass", ci=False)
    assert code == 1
    assert "skipped without a reason" in out


def test_expected_failures_are_not_skips(tmp_path: Path) -> None:
    body = "@pytest.mark.xfail(reason='known')\ndef test_it(): assert False"
    assert outcome(tmp_path, body, ci=True)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_modules_skipped_at_import_are_seen_in_workers_too(tmp_path: Path, workers: int) -> None:
    body = "pytest.importorskip('no_such_module_here')"
    code, out = outcome(tmp_path, body, ci=True, workers=workers)
    assert code == 1
    assert "no_such_module_here" in out
