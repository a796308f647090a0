"""A pytest plugin for CI: a test that skips for a reason nobody agreed to fails the run.

``PYTHONPATH=.ci pytest -p skips``. A skip is agreed to when its reason has one of these in it.
"""

from collections.abc import Iterator
from typing import Any

import pytest

AGREED: tuple[str, ...] = (
    # What this machine lacks
    "/shared",  # data beside the project, which a clone does not have
    "needs a kernel with type information",
    "needs a driver that tells XDP programs the hash",
    "pytricia",  # the peer of a test that needs those data
    "perf_event",  # counters that a container may not open
    "PMU",  # hardware counters that a virtual machine does not have
    "2 MiB pages",
    "1 GiB pages",
    # What only one of the two runs can show
    "needs NUMBA_DISABLE_JIT=1",
    "a kernel checks nothing",
    "nothing is compiled",
    "only looked at by the compiler",
    "interpreted",
    "the kernel's part is played in Python",
    "is put there by Python",
    "900,000 routes",
    "root may read everything",  # the runs here are root's
    # Examples that say why they do not run
    "only shown: ",
)


def _reason(report: Any) -> str:
    where = report.longrepr
    return where[2].removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)


class Skips:
    """Collects skips; ends the session with exit code 1 if one is not agreed to."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []

    def _look(self, report: Any) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = _reason(report)
            if not any(part in reason for part in AGREED):
                self.refused.append((report.nodeid, reason))

    pytest_runtest_logreport = _look
    pytest_collectreport = _look

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Turn success into failure."""
        if self.refused and session.exitstatus == 0:
            session.exitstatus = 1
        yield

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say which."""
        if self.refused:
            terminalreporter.section("skips that are not agreed to (.ci/skips.py)", red=True)
            for nodeid, reason in self.refused:
                terminalreporter.line(f"{nodeid}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    """Register."""
    config.pluginmanager.register(Skips(), "wirespeed-skips")
