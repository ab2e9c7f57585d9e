"""Summaries in a window of stored messages: the newest replaces the messages that it sums up.

    {"role": "system", "type": "summary", "content": "Ada plans a trip.", "metadata": {"summary": {"until_seq": 40, ...}}}

Only a system message is one: no client may write that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

SUMMARY = "summary"
"""The type of a message that sums up those before it."""

LEAD_IN = "Summary of the conversation so far:"

_INSTRUCTIONS = ("system", "developer")


def until_of(message: Any) -> int | None:
    """The seq up to which a message sums up the conversation; None if it is no summary."""
    if not isinstance(message, dict) or message.get("type") != SUMMARY or message.get("role") != "system":
        return None
    metadata = message.get("metadata")
    about = metadata.get("summary") if isinstance(metadata, dict) else None
    until = about.get("until_seq") if isinstance(about, dict) else None
    has_text = isinstance(message.get("content"), str) and message["content"].strip()
    return until if has_text and isinstance(until, int) and not isinstance(until, bool) else None


def summarized(messages: Sequence[Any]) -> Sequence[Any]:
    """The messages with the newest summary before them, in place of the messages that it sums up and of all other summaries.

    Instructions at the beginning are no conversation, and stay.
    """
    newest = next((message for message in reversed(messages) if until_of(message) is not None), None)
    if newest is None:
        return messages
    own_seq = newest.get("seq")
    # at most its own seq: it was written before the messages that follow
    until = min(until_of(newest) or 0, own_seq if isinstance(own_seq, int) else sys.maxsize)
    kept, is_beginning = [], True
    for message in messages:
        if until_of(message) is not None:
            continue
        is_beginning = is_beginning and _field(message, "role") in _INSTRUCTIONS
        seq = _field(message, "seq")
        if is_beginning or not isinstance(seq, int) or seq > until:
            kept.append(message)
    return [{**newest, "content": f"{LEAD_IN}\n\n{newest['content']}", "parts": None, "raw": None}, *kept]


def _field(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, dict) else None
