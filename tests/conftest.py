"""Figures that tests print at the end of a run, be it run by one process or several."""

from __future__ import annotations

from _pytest.terminal import TerminalReporter


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """One line for each test that has recorded its `totals`."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, told in getattr(report, "user_properties", ()):
                if name == "totals" and report.when == "call":
                    terminalreporter.write_line(str(told))
