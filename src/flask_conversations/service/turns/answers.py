"""An answer while it is being given: what the responder has said so far, made into the parts of a message."""

from __future__ import annotations

import codecs
import dataclasses
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ...schemas import messages as schema
from ...schemas import rules
from ...schemas.common import encoded
from ...turns import Component, Event, Reasoning, ResponderError, ToolCall, ToolResult, Usage

JSON = dict[str, Any]


class Answer:
    """What was said, in order; one thread adds to it, and others read."""

    def __init__(self, parts: Sequence[JSON] = (), *, max_length: int | None = None) -> None:
        self._lock = threading.Lock()
        self._parts: list[JSON] = [dict(part) for part in parts]
        self._open: list[str] = []
        """Pieces of the last part that were not put together yet: to do so for each would take ever longer."""
        self._length = sum(len(part["text"]) for part in parts if part["type"] == "text")
        self._max_length = max_length
        self._pending = any(part["type"] == "tool_call" and undecided(part) for part in parts)
        self._half = self._half_thought = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._fields: JSON = {}
        self._usages: list[Usage] = []
        self.additions = 0
        """How often something was added."""

    def add(self, said: Any) -> bool:
        """Take in what a responder has said; False if it was nothing. Raises `ResponderError` for what cannot be said."""
        if isinstance(said, (str, bytes, bytearray)):
            return self._add_text("text", self._whole(said))
        if isinstance(said, Reasoning):
            return self._add_text("reasoning", self._whole_thought(said.text))
        if isinstance(said, Usage):
            self._add_usage(said)
            return True
        if isinstance(said, Event):
            self._add_part(said)
            return True
        raise ResponderError(f"The responder said a {type(said).__name__}, which is neither text nor an event.")

    def describe(self, fields: Mapping[str, Any]) -> None:
        """Further members of the message. Raises `ValidationFailed`."""
        self._fields.update(schema.described(fields))

    def finish(self) -> None:
        """Nothing more is said: half a character that was waited for never came."""
        thought, self._half_thought = self._half_thought, ""
        self._add_text("reasoning", _legible(thought))
        rest = self._half + self._decoder.decode(b"", final=True)
        self._half = ""
        self._add_text("text", _legible(rest))

    @property
    def parts(self) -> list[JSON]:
        """What was said so far."""
        with self._lock:
            self._close()
            # a text grows in place, the rest stays as it is
            return [dict(part) for part in self._parts]

    @property
    def is_empty(self) -> bool:
        return not (self._parts or self._open)

    @property
    def is_pending(self) -> bool:
        """Whether a tool call waits for a decision; asked with every piece, so nothing is put together for it."""
        return self._pending

    @property
    def pending(self) -> list[JSON]:
        """Tool calls that wait for a decision."""
        return [part for part in self.parts if part["type"] == "tool_call" and undecided(part)]

    def columns(self) -> JSON:
        """The columns of the message that says all this."""
        parts = self.parts
        plain = all(part["type"] == "text" for part in parts)
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        return {
            "content": text,
            "content_is_parts": False,
            "parts": None if plain else parts,
            **self._fields,
            **self._cost(),
        }

    def _whole(self, said: str | bytes | bytearray) -> str:
        """The text, without half a character at its end, which is kept until the other half comes."""
        text = self._half + (said if isinstance(said, str) else self._decoder.decode(bytes(said)))
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return _legible(text[: -1 if self._half else None])

    def _whole_thought(self, said: Any) -> str:
        text = self._half_thought + _a_text(said)
        self._half_thought = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return _legible(text[: -1 if self._half_thought else None])

    def _add_text(self, kind: str, text: str) -> bool:
        if not text:
            return False
        excess = False
        if kind == "text" and self._max_length is not None:
            excess = self._length + len(text) > self._max_length
            text = text[: max(self._max_length - self._length, 0)]
        with self._lock:
            if not self._parts or self._parts[-1]["type"] != kind:
                self._close()
                self._parts.append({"type": kind, "text": ""})
            self._open.append(text)
            self._length += len(text) if kind == "text" else 0
            self.additions += 1
        if excess:
            raise ResponderError(f"The answer is longer than {self._max_length} characters.")
        return True

    def _add_part(self, event: Any) -> None:
        part = _part(event)
        if isinstance(event, ToolCall) and event.requires_approval:
            self.finish()  # what follows comes after the user's decision
        with self._lock:
            self._close()
            self._parts.append(part)
            self._pending = self._pending or (part["type"] == "tool_call" and undecided(part))
            self.additions += 1
            if isinstance(event, Component):
                self._fields.update(component_type=part["component_type"], component_data=part["data"])

    def _add_usage(self, usage: Usage) -> None:
        if usage.model is not None:
            self._fields["model"] = _name(usage.model, 255)
        self._usages.append(_checked(usage))
        self.additions += 1

    def _cost(self) -> JSON:
        if not self._usages:
            return {}
        counted = {
            name: sum(counts)
            for name in ("input_tokens", "output_tokens", "total_tokens")
            if (counts := [_count(each, name) for each in self._usages if getattr(each, name) is not None])
        }
        total = counted.get("total_tokens", counted.get("input_tokens", 0) + counted.get("output_tokens", 0))
        details: JSON = {}
        for each in self._usages:
            details.update(each.details)
        return {"usage": {**details, **counted} or None, "tokens_used": total or None}

    def _close(self) -> None:
        if self._open:
            last = self._parts[-1]
            last["text"] = "".join([last["text"], *self._open])
            self._open.clear()


def undecided(part: Mapping[str, Any]) -> bool:
    """Whether a tool call waits for the user."""
    return bool(part.get("requires_approval")) and "approval" not in part


def decided_part(part: JSON, decided: Mapping[str, str | None]) -> JSON:
    """The part with what was decided of it, if that is a tool call that was decided."""
    decision = decided.get(part["id"]) if part["type"] == "tool_call" and undecided(part) else None
    return {**part, "approval": decision} if decision else part


def _part(event: Any) -> JSON:
    if isinstance(event, ToolCall):
        part = {"type": "tool_call", "id": _name(event.id, 255), "name": _name(event.name, 255)}
        part["arguments"] = _json(event.arguments)
        return {**part, "requires_approval": True} if event.requires_approval else part
    if isinstance(event, ToolResult):
        part = {"type": "tool_result", "tool_call_id": _name(event.tool_call_id, 255), "content": _json(event.content)}
        return {**part, "is_error": True} if event.is_error else part
    return {"type": "component", "component_type": _name(event.type, 255), "data": _json(event.data)}


def _name(value: Any, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise ResponderError(f"The responder gave a name or id that is no text of 1 to {longest} characters.")
    return _legible(value)


def _json(value: Any) -> Any:
    """*value* as any database keeps it. Raises `ResponderError` for what is no JSON."""
    try:
        if not rules.is_deeper(value, rules.MAX_DEPTH):
            return _legible_json(json.loads(encoded(value)))
    except (ValueError, TypeError, RecursionError) as error:
        raise ResponderError("The responder said something in an event that is no JSON.") from error
    raise ResponderError("The responder said something in an event that is nested too deeply.")


def _legible_json(value: Any) -> Any:
    if isinstance(value, str):
        return _legible(value)
    if isinstance(value, dict):
        return {_legible(name): _legible_json(one) for name, one in value.items()}
    return [_legible_json(one) for one in value] if isinstance(value, list) else value


def _checked(usage: Usage) -> Usage:
    if not isinstance(usage.details, Mapping):
        raise ResponderError("The details of a usage are no JSON object.")
    return dataclasses.replace(usage, details=_json(dict(usage.details)))


def _count(usage: Usage, name: str) -> int:
    value = getattr(usage, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0


def _a_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ResponderError(f"The responder said a {type(value).__name__} where a text belongs.")
    return value


def _legible(text: str) -> str:
    """*text* as every database takes it: what is no character becomes the sign for that."""
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _has_surrogates(text) else text
    return joined.replace("\0", "\ufffd")


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
