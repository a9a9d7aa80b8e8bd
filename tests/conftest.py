"""Figures that tests print at the end of a run, be it run by one process or several, and the log between two tests."""

from __future__ import annotations

import pytest
import structlog
from _pytest.terminal import TerminalReporter
from hypothesis import settings

settings.register_profile("tripylon", deadline=None)
settings.load_profile("tripylon")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """One line for each test that has recorded its `totals`."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, told in getattr(report, "user_properties", ()):
                if name == "totals" and report.when == "call":
                    terminalreporter.write_line(str(told))


@pytest.fixture(autouse=True)
def log_as_it_is_at_first() -> None:
    """What one test made of the log, by running a command for instance, is none of the next one's business."""
    structlog.reset_defaults()
