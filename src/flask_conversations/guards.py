"""A guard that is ready to use: it removes invisible characters from a message.

    Conversations(db, guards=[remove_invisible])        # or CONVERSATIONS_GUARDS = "flask_conversations.guards.remove_invisible"

Text can carry characters that no screen shows but a model reads. They are removed, except where a script or an emoji needs them.
This is no defence against visible text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

__all__ = ["remove_invisible", "visible"]

_TITLES = ("title", "name", "filename")


def remove_invisible(message: dict[str, Any]) -> dict[str, Any]:
    """The message without invisible characters in its content, in the texts of its parts, and in the titles of attachments."""
    changed = dict(message)
    for name, clean in _CLEANERS.items():
        if name in message:
            changed[name] = clean(message[name])
    return changed


def visible(text: str) -> str:
    """*text* without invisible characters. A text that has none comes back unchanged.

    Removed are control characters but tab and line breaks, lone surrogates, tags, bidirectional embeddings, overrides and isolates,
    joiners, selectors and fillers where they join, select or fill nothing. A control character that breaks a line becomes "\\n".
    """
    if not _SUSPECT.search(text):
        return text
    reads_leftwards = _RIGHT_TO_LEFT.search(text) is not None
    kept: list[str] = []
    before, place = "", 0
    for found in _SUSPECT.finditer(text):
        here = found.start()
        if here < place:
            continue  # a tag that was kept with its flag
        if here > place:
            kept.append(text[place:here])
            before = text[here - 1]
        if shown := _replacement(text, here, before, reads_leftwards):
            kept.append(shown)
            before = shown[-1]
        place = here + max(len(shown), 1)
    return "".join([*kept, text[place:]])


def _content(content: Any) -> Any:
    return visible(content) if isinstance(content, str) else _parts(content)


def _parts(parts: Any) -> Any:
    return [_cleaned(part, ("text",)) for part in parts] if isinstance(parts, (list, tuple)) else parts


def _attachments(attachments: Any) -> Any:
    return [_cleaned(one, _TITLES) for one in attachments] if isinstance(attachments, (list, tuple)) else attachments


def _cleaned(item: Any, names: tuple[str, ...]) -> Any:
    if not isinstance(item, Mapping):
        return item
    return {name: visible(one) if name in names and isinstance(one, str) else one for name, one in item.items()}


_CLEANERS = {"content": _content, "parts": _parts, "attachments": _attachments}


# --- which suspects are needed at their place

_SUSPECT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # hyphenation, joiners, fillers, Mongolian selectors
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero width, direction, invisible operators
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"  # fillers, variation selectors, annotations
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # shorthand, music, tags, more selectors
    "\ud800-\udfff]"
)

_SYMBOLS = "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_SYMBOL = re.compile(f"[{_SYMBOLS}]")
_EMOJI = re.compile(f"[{_SYMBOLS}\ufe0e\ufe0f]")
"""Characters that an emoji sequence may continue: a symbol, of any skin, or its selector."""

_KEYS = re.compile("[0-9#*]")
_KEYCAP = "\u20e3"
_FLAG = "\U0001f3f4"
_FLAG_TAGS = tuple("".join(chr(0xE0000 + ord(c)) for c in name) + "\U000e007f" for name in ("gbeng", "gbsct", "gbwls"))

_IDEOGRAPH = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_VARIED = re.compile("[\u2200-\u22ff\u2a00-\u2aff\u3001\u3002\uff01-\uff1f\u1000-\u109f\uaa60-\uaa7f\ua840-\ua877]")
"""Characters with standardised variants, besides ideographs and symbols: operators, punctuation, Myanmar, Phags-pa."""

_JOINING = re.compile(
    "[\u0600-\u0605\u0608\u060b\u060e-\u061b\u061d-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17b3\u17b6-\u180a\u1810-\u18af"
    "\ufb50-\ufdff\ufe70-\ufefe]"
)
"""Letters and signs of scripts whose letters join: of the Arabic family, of India, Myanmar, Khmer, Mongolian."""

_SPACELESS = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\u1950-\u1aaf]")
"""Scripts of South East Asia and Tibet that write words without a space, and mark where a line may break."""

_MONGOLIAN = re.compile("[\u1820-\u18aa]")
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u061b\u061d-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
_MARKS = re.compile("[\u061c\u200e\u200f]")


def _replacement(text: str, place: int, before: str, reads_leftwards: bool) -> str:
    """The replacement of the character at *place*, behind *before*, the last one kept: itself, a line break, or nothing."""
    one, after = text[place], text[place + 1 : place + 2]
    if one in "\r\x0b\x0c\x85":
        return "\r" if one == "\r" and after == "\n" else "\n"
    if before == _FLAG and (tags := next((tags for tags in _FLAG_TAGS if text.startswith(tags, place)), "")):
        return tags
    if _MARKS.match(one):
        return one if reads_leftwards and before and not _MARKS.match(before) else ""
    return (_selector(one, before, after) or _joiner(one, before, after)) if before else ""


# Each decision depends on the last character kept, and on the next one if that is kept for certain: a second run changes
# nothing.


def _selector(one: str, before: str, after: str) -> str:
    """A variation selector behind something that has variants."""
    if one in "\ufe0e\ufe0f":
        varies = _SYMBOL.match(before) or (_KEYS.match(before) and after == _KEYCAP)
    elif "\ufe00" <= one <= "\ufe0d":
        varies = _VARIED.match(before) or _IDEOGRAPH.match(before)
    elif "\U000e0100" <= one <= "\U000e01ef":
        varies = _IDEOGRAPH.match(before)
    else:
        varies = one in "\u180b\u180c\u180d\u180f" and _MONGOLIAN.match(before)
    return one if varies else ""


def _joiner(one: str, before: str, after: str) -> str:
    """A character that joins or separates letters of a script that needs it, or parts of an emoji."""
    if one == "\u200d" and _EMOJI.match(before):
        joins: Any = _SYMBOL.match(after)
    elif one in "\u200c\u200d":
        joins = _JOINING.match(before)
    elif one == "\u200b":
        joins = _SPACELESS.match(before) and _SPACELESS.match(after)
    elif one == "\u180e":
        joins = _MONGOLIAN.match(before) and _MONGOLIAN.match(after)
    else:
        joins = one == "\u034f" and after and unicodedata.combining(before) and unicodedata.combining(after)
    return one if joins else ""
