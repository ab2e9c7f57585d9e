"""Conversion of a deque's items to messages and back, without loss."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import ValidationFailed
from ..schemas import fields, rules

MEMBER = "session"
"""The member of a message's metadata with the parts of an item that role and content cannot express."""

_ALIASES = {
    "human": "user",
    "ai": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "function": "tool",
}


class Item(dict[str, Any]):
    """An item from a deque: a read-only dict, because a change in place would not be saved."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "This item is a copy of the stored one. To change the stored one, assign: SESSIONS[key][-1] = {**item, ...}. "
            "To change a copy, make one: dict(item)."
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = pop = popitem = clear = setdefault = _refuse

    def copy(self) -> dict[str, Any]:
        return dict(self)

    def __reduce__(self) -> Any:
        # copies and pickles are plain, mutable dicts
        return dict, (dict(self),)


def frozen(item: Any) -> Any:
    """*item* with a dict made read-only."""
    return Item(item) if isinstance(item, dict) else item


def thaw(item: Any) -> Any:
    """*item* with a read-only dict made mutable, after it has left the deque."""
    return dict(item) if isinstance(item, Item) else item


def message_of(item: Any) -> dict[str, Any]:
    """The message for *item*: the arguments of `save_message`. Raises `ValidationFailed` for a value that is not JSON."""
    role, content, note = _split(item)
    message: dict[str, Any] = {"role": role, "content": content}
    if note:
        message["metadata"] = {MEMBER: note}
        extra = note.get("extra", {})
        if "tool_calls" in extra or "tool_call_id" in extra:
            # get_conversation_history reads them there
            message["raw"] = extra
    return message


def item_of(message: Mapping[str, Any]) -> Any:
    """The item of a message; for a message without one, its role and content."""
    plain = Item(role=message["role"], content=message["content"])
    note = (message["metadata"] or {}).get(MEMBER)
    if not isinstance(note, Mapping):
        return plain
    try:
        item = _join(plain, note)
        role, content, _ = _split(item)
    except (KeyError, TypeError, ValueError):
        return plain
    # clients may write metadata: the item is used only if it has the message's role and content
    return frozen(item) if (role, content) == (plain["role"], plain["content"]) else plain


def note_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """The sessions' member in a message's metadata."""
    note = (message["metadata"] or {}).get(MEMBER)
    return dict(note) if isinstance(note, Mapping) else {}


def _split(item: Any) -> tuple[str, Any, dict[str, Any]]:
    """The role and content of *item* for any reader, and the note that restores the item from them."""
    if isinstance(item, str):
        return "user", item, {"kind": "text"}
    if isinstance(item, Mapping) and "role" in item and "content" in item:
        return _of_dict(item)
    if isinstance(item, (tuple, list)) and len(item) == 2 and _role(item[0]) and isinstance(item[1], str):
        kind = "tuple" if isinstance(item, tuple) else "list"
        return _role(item[0]) or "user", item[1], {"kind": kind, "role": item[0]}
    value = _json(item)
    note = {"item": value, **({"kind": "items"} if isinstance(item, tuple) else {})}
    return "user", json.dumps(value, ensure_ascii=False), note


def _of_dict(item: Mapping[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    given_role, given = item["role"], item["content"]
    role, content = _role(given_role) or "user", _content(given)
    extra = {name: value for name, value in item.items() if name not in ("role", "content")}
    times = {name: value.isoformat() for name, value in extra.items() if isinstance(value, dt.datetime)}
    extra = _json({name: value for name, value in extra.items() if name not in times})
    if given_role != role:
        extra["role"] = _json(given_role)
    if given != content:
        extra["content"] = _json(given)
    return role, content, {name: found for name, found in (("extra", extra), ("times", times)) if found}


def _join(plain: Mapping[str, Any], note: Mapping[str, Any]) -> Any:
    if "item" in note:
        return tuple(note["item"]) if note.get("kind") == "items" else note["item"]
    match note.get("kind"):
        case "text":
            return plain["content"]
        case "tuple":
            return note["role"], plain["content"]
        case "list":
            return [note["role"], plain["content"]]
    times = {name: dt.datetime.fromisoformat(text) for name, text in dict(note.get("times", ())).items()}
    return {**plain, **dict(note.get("extra", ())), **times}


def _role(name: Any) -> str | None:
    """The role for a name or alias, in any case; None if it is unknown."""
    if not isinstance(name, str):
        return None
    known = _ALIASES.get(name.casefold(), name.casefold())
    return known if known in fields.ROLES else None


def _content(given: Any) -> Any:
    """The content if a message can store it, else its JSON; None becomes the empty text."""
    if given is None:
        return ""
    try:
        return rules.content()(given)
    except rules.Invalid:
        return given if isinstance(given, str) else json.dumps(_json(given), ensure_ascii=False)


def _json(value: Any) -> Any:
    """A copy with plain JSON types. Raises `ValidationFailed` for other types."""
    try:
        return rules.json_value(value)
    except rules.Invalid as problem:
        raise ValidationFailed({"item": [str(problem)]}, f"This item cannot be stored: {problem}") from None
