"""An item of a deque as a message, and back: what comes out equals what went in."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import ValidationFailed
from ..schemas import fields, rules

MEMBER = "session"
"""The member of a message's metadata that keeps what role and content cannot say of an item."""

_ALIASES = {
    "human": "user",
    "ai": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "function": "tool",
}


class Item(dict[str, Any]):
    """An item as it was read: a dict that cannot be changed in place, since the change would not be saved."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "This item is a copy of what is stored. To change what is stored, assign: SESSIONS[key][-1] = {**item, ...}. "
            "To change a copy, take one: dict(item)."
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = pop = popitem = clear = setdefault = _refuse

    def copy(self) -> dict[str, Any]:
        return dict(self)

    def __reduce__(self) -> Any:
        # copies and pickles are plain dicts, which may be changed
        return dict, (dict(self),)


def frozen(item: Any) -> Any:
    """*item* as the deque shows it."""
    return Item(item) if isinstance(item, dict) else item


def loose(item: Any) -> Any:
    """*item* after it has left the deque: its taker may change it."""
    return dict(item) if isinstance(item, Item) else item


def message_of(item: Any) -> dict[str, Any]:
    """The message that keeps *item*: the fields of `save_message`. Raises `ValidationFailed` for what is not JSON."""
    role, content, note = _taken_apart(item)
    message: dict[str, Any] = {"role": role, "content": content}
    if note:
        message["metadata"] = {MEMBER: note}
        extra = note.get("extra", {})
        if "tool_calls" in extra or "tool_call_id" in extra:
            # where get_conversation_history looks for them
            message["raw"] = extra
    return message


def item_of(message: Mapping[str, Any]) -> Any:
    """The item that a message keeps; of any other message, its role and content."""
    plain = Item(role=message["role"], content=message["content"])
    note = (message["metadata"] or {}).get(MEMBER)
    if not isinstance(note, Mapping):
        return plain
    try:
        item = _put_together(plain, note)
        role, content, _ = _taken_apart(item)
    except (KeyError, TypeError, ValueError):
        return plain
    # clients may write metadata: it is believed only as far as it agrees with the role and content that they may write
    return frozen(item) if (role, content) == (plain["role"], plain["content"]) else plain


def note_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """What the sessions have noted with a message."""
    note = (message["metadata"] or {}).get(MEMBER)
    return dict(note) if isinstance(note, Mapping) else {}


def _taken_apart(item: Any) -> tuple[str, Any, dict[str, Any]]:
    """Role and content as every reader understands them, and the note that makes the item of them again."""
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


def _put_together(plain: Mapping[str, Any], note: Mapping[str, Any]) -> Any:
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
    """The role that a name stands for, in any spelling; None if it is not known."""
    if not isinstance(name, str):
        return None
    known = _ALIASES.get(name.casefold(), name.casefold())
    return known if known in fields.ROLES else None


def _content(given: Any) -> Any:
    """The content itself where a message can have it, else its JSON; nothing as the empty text."""
    if given is None:
        return ""
    try:
        return rules.content()(given)
    except rules.Invalid:
        return given if isinstance(given, str) else json.dumps(_json(given), ensure_ascii=False)


def _json(value: Any) -> Any:
    """A copy of plain JSON types. Raises `ValidationFailed`, naming what is none."""
    try:
        return rules.json_value(value)
    except rules.Invalid as problem:
        raise ValidationFailed({"item": [str(problem)]}, f"This item cannot be stored: {problem}") from None
