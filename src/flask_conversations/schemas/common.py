"""Common to messages and conversations: JSON text, times as text, and a title or preview out of a text."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

TITLE_LENGTH = 80
PREVIEW_LENGTH = 160

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

_ISO = "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ"  # every row has several times: isoformat() takes twice as long


class Row(Protocol):
    """A row of a table, or a list, whose values are read by position."""

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, place: Any, /) -> Any: ...


def iso(moment: dt.datetime | None) -> str | None:
    """A time as ISO 8601 in UTC with six digits, so that texts sort like times."""
    if moment is None:
        return None
    day = moment.year, moment.month, moment.day
    return _ISO % (*day, moment.hour, moment.minute, moment.second, moment.microsecond)


def title_from(text: str) -> str | None:
    """A title out of a first message: its first line with words, at most 80 characters, cut at a word."""
    line = next((line for line in map(str.strip, text[:4000].splitlines()) if line), "")
    return shorten(line[: 4 * TITLE_LENGTH], TITLE_LENGTH) or None


def preview_of(text: str) -> str:
    """The beginning of a message on one line."""
    return shorten(text[: 2 * PREVIEW_LENGTH], PREVIEW_LENGTH)


def shorten(text: str, length: int) -> str:
    """*text* on one line, cut at a word where there is one in the last half."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    cut = line[: length + 1].rfind(" ")
    return line[: cut if cut > length // 2 else length]


def text_of(content: Any) -> str:
    """The plain text of a content: itself, or its text parts one below the other."""
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def encoded(payload: Any) -> bytes:
    """JSON text. A corrupt value from the database (NaN, a lone surrogate, bytes) is replaced, and does not fail the answer."""
    try:
        return _encode(payload).encode()
    except (ValueError, TypeError):
        return json.dumps(_sanitized(payload), allow_nan=False).encode()


def _sanitized(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(name): _sanitized(one) for name, one in value.items()}
    return [_sanitized(one) for one in value] if isinstance(value, (list, tuple)) else value
