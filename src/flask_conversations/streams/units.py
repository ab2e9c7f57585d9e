"""Where a reader of an answer stands: a count of units, which memory, Redis and the database count alike.

The question is unit 0, the beginning of the answer unit 1; then each character of text or reasoning is a unit, and each other
part is one. So a stream can be taken up at any character, from any source, and nothing is sent twice or left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

QUESTION = 0
STARTED = 1
FIRST = 2
"""Where the first part of an answer begins."""
BROKEN_OFF = 10**9
"""The end of an answer that was broken off: its readers may have been told more of it than was saved, but not that much."""

_SPOKEN = {"text": "message.delta", "reasoning": "message.reasoning"}
_WHOLE = {"tool_call": "tool.call", "tool_result": "tool.result", "component": "message.component"}


class Sent(NamedTuple):
    """One event of a stream, and the position that its reader has reached with it."""

    position: int
    event: str
    data: Mapping[str, Any]


def parts_of(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The parts of an answer; a plain text is one."""
    if message["parts"]:
        return message["parts"]  # type: ignore[no-any-return]
    content = message["content"]
    return [{"type": "text", "text": content}] if content else []


def end_of(parts: Sequence[Mapping[str, Any]]) -> int:
    """The position behind the last of *parts*."""
    return FIRST + sum(map(_units, parts))


def said_after(parts: Sequence[Mapping[str, Any]], message_id: str, position: int) -> Iterator[Sent]:
    """What *parts* say from *position* on; a text that begins before it is cut there."""
    start = FIRST
    for part in parts:
        end = start + _units(part)
        if end > position:
            yield _sent(part, message_id, max(position - start, 0), end)
        start = end


def _sent(part: Mapping[str, Any], message_id: str, skipped: int, end: int) -> Sent:
    if part["type"] in _SPOKEN:
        return Sent(end, _SPOKEN[part["type"]], {"message_id": message_id, "delta": part["text"][skipped:]})
    return Sent(end, _WHOLE.get(part["type"], "message.part"), {"message_id": message_id, **part})


def _units(part: Mapping[str, Any]) -> int:
    return len(part["text"]) if part["type"] in _SPOKEN else 1
