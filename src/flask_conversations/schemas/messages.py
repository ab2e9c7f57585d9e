"""A message in and out: what a caller gives, what is stored, and the JSON that everyone sees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from ..errors import ValidationFailed
from . import rules
from .canonical import digest, fingerprint
from .common import iso, text_of
from .shapes import Message

ROLES = ("user", "assistant", "system", "tool", "developer")
STATUSES = ("pending", "streaming", "delivered", "interrupted", "failed")

_role = rules.one_of(ROLES)
_label = rules.optional(rules.text(255))
_json = rules.optional(rules.json_value)
_object = rules.optional(rules.json_object)
_list = rules.optional(rules.json_list)

RULES: dict[str, rules.Rule] = {
    "type": rules.text(32, blank=False),
    "parts": _list,
    "raw": _object,
    "status": rules.one_of(STATUSES),
    "model": _label,
    "tokens_used": rules.optional(rules.integer(0)),
    "usage": _object,
    "latency_ms": rules.optional(rules.milliseconds),
    "action_type": _label,
    "action_params": _json,
    "action_result": _json,
    "action_status": _label,
    "component_type": _label,
    "component_data": _json,
    "attachments": _list,
    "contexts": _list,
    "metadata": _object,
    "created_at": rules.optional(rules.moment),
}
"""The fields of a message besides role, content and ids."""


LISTS = ("content", "parts", "attachments")
"""Fields whose entries `max_parts` counts."""


def too_many(values: Mapping[str, Any], max_parts: int | None) -> dict[str, list[str]]:
    """What is wrong with the lists among *values* that are longer than *max_parts*, by field."""
    if max_parts is None:
        return {}
    return {
        name: [f"At most {max_parts} entries."]
        for name in LISTS
        if isinstance(values.get(name), (list, tuple)) and len(values[name]) > max_parts
    }


def content_rule(value: Any, max_length: int | None = None) -> str | list[Any]:
    """Text, or a list of parts: objects with a `type`, text parts with a `text`; other types are kept as they are."""
    if isinstance(value, str):
        return cast("str", rules.text(max_length)(value))
    if not isinstance(value, (list, tuple)):
        raise rules.Invalid("Must be text or a list of parts.")
    parts = rules.json_list(value)
    for part in parts:
        if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            raise rules.Invalid("Each part must be an object with a type.")
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise rules.Invalid("A text part must have a text.")
    if max_length is not None and len(text_of(parts)) > max_length:
        raise rules.Invalid(f"Longer than {max_length} characters.")
    return cast("list[Any]", parts)


def values(
    role: Any,
    content: Any,
    fields: Mapping[str, Any],
    max_length: int | None = None,
    max_parts: int | None = None,
) -> dict[str, Any]:
    """The column values of a new message, `None` ones left out. Raises `ValidationFailed` naming every refused field."""
    problems = rules.Problems()
    problems.errors.update(too_many({**fields, "content": content}, max_parts))
    row: dict[str, Any] = {"role": problems.take("role", _role, role)}
    checked = problems.take("content", lambda value: content_rule(value, max_length), content)
    for name, value in fields.items():
        if name not in RULES:
            problems.errors[name] = ["Unknown field."]
        elif value is not None:
            row[name] = problems.take(name, RULES[name], value)
    if isinstance(checked, list) and row.get("parts") is not None:
        problems.errors["parts"] = ["Give the parts once: as content or as parts."]
    problems.raise_any()
    row.update(content_columns(checked))
    row.setdefault("type", "text")
    row.setdefault("status", "delivered")
    return row


def described(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The column values of an answer's further members. Raises `ValidationFailed` for those that the turn itself decides."""
    problems = rules.Problems()
    row = {}
    for name, value in fields.items():
        if name not in RULES or name in ("parts", "raw", "status", "created_at"):
            problems.errors[name] = ["Unknown field."]
        elif value is not None:
            row[name] = problems.take(name, RULES[name], value)
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
    """What tells a retry with the same client id from another message with that client id."""
    payload = {name: value for name, value in row.items() if name not in _NOT_PAYLOAD}
    if "created_at" in payload:
        payload["created_at"] = iso(payload["created_at"])
    return fingerprint(payload)


STORED = [
    "id",
    "conversation_id",
    "client_id",
    "seq",
    "parent_id",
    "version",
    "role",
    "type",
    "content",
    "parts",
    "raw",
    "status",
    "action_type",
    "action_params",
    "action_result",
    "action_status",
    "component_type",
    "component_data",
    "attachments",
    "contexts",
    "metadata",
    "model",
    "tokens_used",
    "usage",
    "latency_ms",
    "rating",
    "created_at",
    "updated_at",
    "edited_at",
    "rating_reason",
    "rating_comment",
    "content_is_parts",
    "digest",
    "fingerprint",
]
"""What the store reads of a message."""

_MEMBERS = STORED[: STORED.index("rating_reason")]


def shown(text: Any) -> str:
    """A stored text. That of a spoilt row as far as it can be, so that the rest of the conversation stays readable."""
    if isinstance(text, str):
        return text
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def dump(row: Any) -> Message:
    """The JSON of a stored message; *row* is in the order of `STORED`."""
    found: dict[str, Any] = dict(zip(_MEMBERS, row, strict=False))
    reason, comment, is_parts = row[len(_MEMBERS) : len(_MEMBERS) + 3]
    found["content"] = content_of(shown(found["content"]), is_parts, found["parts"])
    found["rating"] = _rating(found["rating"])
    found["feedback"] = (
        None if found["rating"] is None else {"rating": found["rating"], "reason": reason, "comment": comment}
    )
    found["attachments"] = found["attachments"] or []
    found["contexts"] = found["contexts"] or []
    for name in ("created_at", "updated_at", "edited_at"):
        found[name] = iso(found[name])
    return cast("Message", found)


MEMBERS = (*_MEMBERS, "feedback")
"""What a message has, in the order in which it is shown."""

DEFAULTS: dict[str, Any] = {
    "parent_id": None,
    "client_id": None,
    "type": "text",
    "parts": None,
    "raw": None,
    "status": "delivered",
    "action_type": None,
    "action_params": None,
    "action_result": None,
    "action_status": None,
    "component_type": None,
    "component_data": None,
    "attachments": [],
    "contexts": [],
    "metadata": None,
    "model": None,
    "tokens_used": None,
    "usage": None,
    "latency_ms": None,
    "rating": None,
    "feedback": None,
    "edited_at": None,
}
"""What a plain message says in these members: who keeps messages may leave them out. The cache's format counts on their order."""


def rating_rule(value: Any) -> str:
    """`up`, `down`, or a whole number from -10 to 10, as it is stored."""
    if value in ("up", "down") and isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and -10 <= value <= 10:
        return str(value)
    raise rules.Invalid("Must be 'up', 'down' or a whole number from -10 to 10.")


def _rating(stored: str | None) -> str | int | None:
    if stored is None or stored in ("up", "down"):
        return stored
    try:
        return int(stored)
    except ValueError:
        return stored


KEPT_BY_SERVER = frozenset(
    ("conversation_id", "seq", "parent_id", "version", "rating", "feedback", "updated_at", "edited_at")
)
"""Members of a message's JSON that a client may send back as it got them, and that are not taken from there."""


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

    That is one in another role than *roles*, or one whose `raw` says what only a tool or the host may say.
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
