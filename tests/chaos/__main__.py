"""The long run: `python -m tests.chaos`, or `make chaos`. Further arguments are pytest's; `CHAOS_SEED` repeats a run."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from .conftest import LONG


class Figures:
    """Says at the end what was measured."""

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("figures")
        for outcome in ("passed", "failed"):
            for report in terminalreporter.stats.get(outcome, []):
                for name, line in report.user_properties if report.when == "call" else ():
                    if name == "figure":
                        terminalreporter.write_line(line)


if __name__ == "__main__":
    os.environ[LONG] = "yes"
    sys.exit(pytest.main(["tests/chaos", "-q", *sys.argv[1:]], plugins=[Figures()]))
