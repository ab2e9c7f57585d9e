"""A message in and out: the values of a caller, the columns, and the JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from ..errors import ValidationFailed
from . import fields, rules
from .canonical import digest, fingerprint
from .common import Row, iso, text_of
from .types import Message

RULES = fields.settable(fields.MESSAGE, fields.CLIENT, fields.HOST)
"""The rules of the fields that hosts and clients may set."""

_FURTHER = {name: rule for name, rule in RULES.items() if name not in ("role", "content", "client_id", "parent_id")}
"""The rules of the fields besides role, content and ids."""

_DESCRIBING = {name: rule for name, rule in _FURTHER.items() if not fields.MESSAGE[name].set_by_turns}

LISTS = ("content", "parts", "attachments")
"""Fields whose entries `max_parts` counts."""


def too_many(values: Mapping[str, Any], max_parts: int | None) -> dict[str, list[str]]:
    """The errors, by field, of the lists among *values* that are longer than *max_parts*."""
    if max_parts is None:
        return {}
    return {
        name: [f"At most {max_parts} entries."]
        for name in LISTS
        if isinstance(values.get(name), (list, tuple)) and len(values[name]) > max_parts
    }


def values(
    role: Any,
    content: Any,
    further: Mapping[str, Any],
    max_length: int | None = None,
    max_parts: int | None = None,
) -> dict[str, Any]:
    """The column values of a new message, `None` ones left out. Raises `ValidationFailed` naming every refused field."""
    problems = rules.Problems()
    if further or not isinstance(content, str):
        problems.errors.update(too_many({**further, "content": content}, max_parts))
    row: dict[str, Any] = {"role": problems.take("role", RULES["role"], role)}
    checked = problems.take("content", rules.content(max_length), content)
    for name, value in further.items():
        if name not in _FURTHER:
            problems.errors[name] = ["Unknown field."]
        elif value is not None:
            row[name] = problems.take(name, _FURTHER[name], value)
    if isinstance(checked, list) and row.get("parts") is not None:
        problems.errors["parts"] = ["Give the parts once: as content or as parts."]
    problems.raise_any()
    row.update(content_columns(checked))
    row.setdefault("type", fields.MESSAGE["type"].default)
    row.setdefault("status", fields.MESSAGE["status"].default)
    return row


def described(further: Mapping[str, Any]) -> dict[str, Any]:
    """The column values of an answer's further members. Raises `ValidationFailed` for those that the turn itself decides."""
    problems = rules.Problems()
    row = {}
    for name, value in further.items():
        if name not in _DESCRIBING:
            problems.errors[name] = ["Unknown field."]
        elif value is not None:
            row[name] = problems.take(name, _DESCRIBING[name], value)
    problems.raise_any()
    return row


def content_columns(content: str | list[Any]) -> dict[str, Any]:
    """How a content is stored: its text always, and the parts if it came as parts."""
    if isinstance(content, str):
        return {"content": content, "content_is_parts": False}
    return {"content": text_of(content), "content_is_parts": True, "parts": content}


def content_of(text: str, is_parts: bool, parts: Any) -> Any:
    """The content as it was given: text or parts."""
    return parts if is_parts and isinstance(parts, list) else text


def digest_of(row: Mapping[str, Any], message_id: str) -> int:
    """The digest of a message that is about to be stored."""
    return digest(message_id, row["role"], content_of(row["content"], row["content_is_parts"], row.get("parts")))


_NOT_PAYLOAD = frozenset({"client_id"})


def fingerprint_of(row: Mapping[str, Any]) -> str:
    """A digest that tells a retry from another message with the same client id."""
    payload = {name: value for name, value in row.items() if name not in _NOT_PAYLOAD}
    if "created_at" in payload:
        payload["created_at"] = iso(payload["created_at"])
    return fingerprint(payload)


STORED = fields.stored(fields.MESSAGE)
"""The columns that the store reads of a message."""

_SHOWN = tuple(name for name in STORED if fields.MESSAGE[name].shown)


def decode_text(text: Any) -> str:
    """A stored text; a corrupt one with replacement characters, so that the rest of the conversation stays readable."""
    if isinstance(text, str):
        return text
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def dump(row: Row) -> Message:
    """The JSON of a stored message; *row* is in the order of `STORED`."""
    found: dict[str, Any] = dict(zip(_SHOWN, row, strict=False))
    reason, comment, is_parts = row[len(_SHOWN) : len(_SHOWN) + 3]
    found["content"] = content_of(decode_text(found["content"]), is_parts, found["parts"])
    found["feedback"] = None
    if found["rating"] is not None:
        found["rating"] = _rating(found["rating"])
        found["feedback"] = {"rating": found["rating"], "reason": reason, "comment": comment}
    found["attachments"] = found["attachments"] or []
    found["contexts"] = found["contexts"] or []
    for name in ("created_at", "updated_at", "edited_at"):
        if found[name] is not None:
            found[name] = iso(found[name])
    return cast("Message", found)


DEFAULTS = {name: field.default for name, field in fields.MESSAGE.items() if field.cached is not None}
"""The members that an entry of the cache leaves out of a message, with their values there."""


def _rating(stored: str) -> str | int:
    if stored in ("up", "down"):
        return stored
    try:
        return int(stored)
    except ValueError:
        return stored


# not parent_id: the order of a client's copy gives the parents
KEPT_BY_SERVER = {"parent_id", *(name for name in fields.shown(fields.MESSAGE) if name not in RULES)} - {"id"}
"""Members of a message's JSON that a client may send back, and that are ignored."""


def listed(messages: Any) -> Sequence[Any]:
    """*messages*, which must be a list. Raises `ValidationFailed`."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise ValidationFailed({"messages": ["Not a valid list."]})
    return messages


def own_members(item: Any) -> Any:
    """A message as a client may hold it, without the members that the server keeps itself."""
    if not isinstance(item, Mapping):
        return item
    own = {name: value for name, value in item.items() if name not in KEPT_BY_SERVER}
    if isinstance(own.get("content"), list):
        # a list content comes back as `parts` too
        own.pop("parts", None)
    return own


_RESULTS = ("function_call_output", "tool_result", "tool-result", "tool", "system")


def refuse_unwritable(message: Mapping[str, Any], roles: Collection[str]) -> None:
    """Raise `ValidationFailed` for a message that a client may not write.

    That is one in another role than *roles*, or one whose `raw` has content of another role or a tool.
    """
    if message.get("role", "user") not in roles:
        raise ValidationFailed({"role": [f"Clients may write: {', '.join(roles)}."]})
    if _speaks_for_others(message.get("raw"), roles):
        raise ValidationFailed({"raw": ["A client may not write tool results or other roles."]})


def _speaks_for_others(raw: Any, roles: Collection[str]) -> bool:
    if isinstance(raw, Mapping):
        foreign = isinstance(raw.get("role"), str) and raw["role"] not in (*roles, "human", "ai")
        is_result = "tool_call_id" in raw or raw.get("type") in _RESULTS
        return foreign or is_result or any(_speaks_for_others(one, roles) for one in raw.values())
    return isinstance(raw, list) and any(_speaks_for_others(one, roles) for one in raw)
