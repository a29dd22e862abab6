"""Print what was tried with bad input, after the tests."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import pytest

COLUMNS = ("refused", "computed")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the counts of a worker to the process that reports."""
    module = sys.modules.get("test_bad_input")
    output = getattr(session.config, "workeroutput", None)
    if module is not None and output is not None:
        output["bad_input"] = [[*key, n] for key, n in module.TRIED.items()]


class Table:
    """Collects the counts of all workers."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def pytest_testnodedown(self, node: Any) -> None:
        """Take the counts of a worker that ended."""
        for name, outcome, n in getattr(node, "workeroutput", {}).get("bad_input", []):
            self.counts[name, outcome] += n

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        module = sys.modules.get("test_bad_input")
        if module is not None:
            self.counts += module.TRIED
        names = sorted({name for name, _ in self.counts})
        if names:
            terminalreporter.section("bad input: calls by outcome")
            terminalreporter.line(f"{'function':<58}{'refused':>9}{'computed':>10}")
        for name in names:
            cells = [self.counts[name, column] for column in COLUMNS]
            terminalreporter.line(f"{name:<58}{cells[0]:>9}{cells[1]:>10}")


def pytest_configure(config: pytest.Config) -> None:
    """Collect the table."""
    config.pluginmanager.register(Table(), "bad input")
