"""A finding of `doctor` or `verify`."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "FAIL"


class Finding(NamedTuple):
    """The result of one check, without any content of a conversation."""

    name: str
    """The check, or the kind of fault in a conversation."""
    state: str
    text: str
    """The observation, and the remedy."""
    conversation_id: str | None = None
    message_id: str | None = None
    repairable: bool = False
    repaired: bool = False
