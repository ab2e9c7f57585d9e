"""The result of a call that may repeat an earlier one."""

from __future__ import annotations

from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """The result of a call; *replayed* if an earlier, equal call has produced it."""

    result: Any
    replayed: bool
