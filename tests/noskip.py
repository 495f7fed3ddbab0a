"""A pytest plugin: with CI=true a skip is a failure, and a skip without a reason always is.

A test may be skipped in continuous integration only if it carries a marker that names hardware or a
program which need not be there (``ALLOWED``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest

ALLOWED = frozenset({"gpu", "browser"})
NO_REASON = frozenset({"", "unconditional skip", "Skipped"})
_KEY = "irprune_skips"


class Skip(NamedTuple):
    """One skipped test or module."""

    nodeid: str
    reason: str
    allowed: bool


def reason_of(report: Any) -> str:
    """The text given to ``pytest.skip`` or to the marker."""
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr or "")
    return text.removeprefix("Skipped: ").strip()


def failures(skips: Iterable[Skip], ci: bool) -> list[str]:
    """The lines to print about skips that may not be; empty if all is well."""
    out = []
    for skip in skips:
        if skip.reason in NO_REASON:
            out.append(f"{skip.nodeid}: skipped without a reason")
        elif ci and not skip.allowed:
            out.append(f"{skip.nodeid}: {skip.reason}")
    return out


class NoSkip:
    """Collects skips of this process and of xdist workers, and fails the session for them."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.skips: list[Skip] = []
        self.is_worker = hasattr(config, "workerinput")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.is_worker or not report.skipped or hasattr(report, "wasxfail"):
            return
        allowed = bool(ALLOWED & set(report.keywords))
        self.skips.append(Skip(report.nodeid, reason_of(report), allowed))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skips.append(Skip(report.nodeid, reason_of(report), False))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Takes over skips at import from xdist's workers: its controller is not told of them."""
        for skip in getattr(node, "workeroutput", {}).get(_KEY, []):
            if Skip(*skip) not in self.skips:
                self.skips.append(Skip(*skip))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.is_worker:
            self.config.workeroutput[_KEY] = [tuple(s) for s in self.skips]  # type: ignore[attr-defined]
        elif self.lines() and session.exitstatus in (0, 5):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        lines = self.lines()
        if lines:
            terminalreporter.section("skips that count as failures", red=True)
            for line in lines:
                terminalreporter.line(line)

    def lines(self) -> list[str]:
        return failures(self.skips, os.environ.get("CI", "").lower() == "true")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(NoSkip(config), "irprune-noskip")
