"""What a call returns, and whether it has returned that before."""

from __future__ import annotations

from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What a call returns, and whether it is the answer of an earlier, equal call."""

    result: Any
    replayed: bool
