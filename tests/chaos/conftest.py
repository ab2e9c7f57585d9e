"""Chaos is short in the suite and long in `make chaos`; both say their figures."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says a figure: a line in the summary of the run."""

    def say(line: str) -> None:
        record_property("figure", line)
        print(line)

    return say


@pytest.fixture
def seed() -> int:
    """Another one each time, and said; `CHAOS_SEED` repeats one."""
    return int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(3), "big"))
