"""A finding of `doctor` or `verify`."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "FAIL"


class Finding(NamedTuple):
    """One thing that was examined, in words without any content of a conversation."""

    name: str
    """What was examined, or the kind of fault in a conversation."""
    state: str
    text: str
    """What was seen, and what to do about it."""
    conversation_id: str | None = None
    message_id: str | None = None
    repairable: bool = False
    repaired: bool = False
