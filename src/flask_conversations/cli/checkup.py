"""What one check of the doctor says."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "FAIL"


class Check(NamedTuple):
    """One line: what was looked at, how it is, and in words what was seen and what to do."""

    name: str
    state: str
    text: str
