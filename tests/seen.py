"""What passed in this run, and the option to write down what the end-to-end tests saw (see tests/operations.py)."""

from __future__ import annotations

import pytest

PASSED: set[str] = set()  # names of the tests that passed in this process


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-operations", action="store_true", help="write docs/operations-matrix.md from what was seen"
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        PASSED.add(report.nodeid.rsplit("::", 1)[-1].partition("@")[0])  # xdist adds the group after an @
