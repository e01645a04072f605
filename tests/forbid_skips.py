"""A pytest plugin for CI (`-p tests.forbid_skips`): a skipped test fails the run, unless the reason is
"no GPU"."""

from __future__ import annotations

import pytest

_skips: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if not report.skipped:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected failure"
    if "no GPU" not in reason:
        _skips.append(f"{report.nodeid}: {reason}")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skips.append(f"{report.nodeid}: the whole module is skipped")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skips:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for skip in _skips:
        terminalreporter.write_line(f"not allowed to be skipped: {skip}", red=True)
