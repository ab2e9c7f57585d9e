"""The answer of a running turn: the output of the responder as parts of a message."""

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
from ...turns import Component, Reasoning, ResponderError, ToolCall, ToolResult, Usage

JSON = dict[str, Any]


class Answer:
    """The output of a responder, in order. One thread adds to it, other threads read it."""

    def __init__(self, parts: Sequence[JSON] = (), *, max_length: int | None = None) -> None:
        self._lock = threading.Lock()
        self._parts: list[JSON] = [dict(part) for part in parts]
        self._buffer: list[str] = []
        """Pieces to append to the last part: joining each at once would take quadratic time."""
        self._length = sum(len(part["text"]) for part in parts if part["type"] == "text")
        self._max_length = max_length
        self._pending = any(part["type"] == "tool_call" and undecided(part) for part in parts)
        self._text_rest = self._reasoning_rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._fields: JSON = {}
        self._usages: list[Usage] = []
        self.additions = 0
        """The number of additions."""

    def add(self, output: Any) -> bool:
        """Add *output* of a responder; False if it is empty. Raises `ResponderError` for an unsupported type or value."""
        if isinstance(output, (str, bytes, bytearray)):
            return self._add_text("text", self._decode_text(output))
        if isinstance(output, Reasoning):
            return self._add_text("reasoning", self._decode_reasoning(output.text))
        if isinstance(output, Usage):
            self._add_usage(output)
            return True
        if isinstance(output, (ToolCall, ToolResult, Component)):
            self._add_part(output)
            return True
        raise ResponderError(f"The responder yielded a {type(output).__name__}, which is neither text nor an event.")

    def describe(self, fields: Mapping[str, Any]) -> None:
        """Set further members of the message. Raises `ValidationFailed`."""
        self._fields.update(schema.described(fields))

    def finish(self) -> None:
        """Add incomplete characters as replacement characters: no more output follows."""
        reasoning_rest, self._reasoning_rest = self._reasoning_rest, ""
        self._add_text("reasoning", _sanitized(reasoning_rest))
        rest = self._text_rest + self._decoder.decode(b"", final=True)
        self._text_rest = ""
        self._add_text("text", _sanitized(rest))

    @property
    def parts(self) -> list[JSON]:
        """The parts of the answer so far."""
        with self._lock:
            self._flush()
            # only texts are changed in place
            return [dict(part) for part in self._parts]

    @property
    def is_empty(self) -> bool:
        return not (self._parts or self._buffer)

    @property
    def is_pending(self) -> bool:
        """Whether a tool call waits for a decision. It is read for each piece, and so does not join the buffer."""
        return self._pending

    @property
    def pending(self) -> list[JSON]:
        """Tool calls that wait for a decision."""
        return [part for part in self.parts if part["type"] == "tool_call" and undecided(part)]

    def columns(self) -> JSON:
        """The message columns of the answer."""
        parts = self.parts
        plain = all(part["type"] == "text" for part in parts)
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        return {
            "content": text,
            "content_is_parts": False,
            "parts": None if plain else parts,
            **self._fields,
            **self._usage_columns(),
        }

    def _decode_text(self, output: str | bytes | bytearray) -> str:
        """The text without an incomplete character at its end, which is kept for the next call."""
        text = self._text_rest + (output if isinstance(output, str) else self._decoder.decode(bytes(output)))
        self._text_rest = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return _sanitized(text[: -1 if self._text_rest else None])

    def _decode_reasoning(self, output: Any) -> str:
        text = self._reasoning_rest + _require_text(output)
        self._reasoning_rest = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return _sanitized(text[: -1 if self._reasoning_rest else None])

    def _add_text(self, kind: str, text: str) -> bool:
        if not text:
            return False
        is_too_long = False
        if kind == "text" and self._max_length is not None:
            is_too_long = self._length + len(text) > self._max_length
            text = text[: max(self._max_length - self._length, 0)]
        with self._lock:
            if not self._parts or self._parts[-1]["type"] != kind:
                self._flush()
                self._parts.append({"type": kind, "text": ""})
            self._buffer.append(text)
            self._length += len(text) if kind == "text" else 0
            self.additions += 1
        if is_too_long:
            raise ResponderError(f"The answer is longer than {self._max_length} characters.")
        return True

    def _add_part(self, event: ToolCall | ToolResult | Component) -> None:
        part = _part_of(event)
        if isinstance(event, ToolCall) and event.requires_approval:
            self.finish()  # later output belongs behind the user's decision
        with self._lock:
            self._flush()
            self._parts.append(part)
            self._pending = self._pending or (part["type"] == "tool_call" and undecided(part))
            self.additions += 1
            if isinstance(event, Component):
                self._fields.update(component_type=part["component_type"], component_data=part["data"])

    def _add_usage(self, usage: Usage) -> None:
        if usage.model is not None:
            self._fields["model"] = _name(usage.model, 255)
        self._usages.append(_checked_usage(usage))
        self.additions += 1

    def _usage_columns(self) -> JSON:
        if not self._usages:
            return {}
        counted = {
            name: sum(counts)
            for name in ("input_tokens", "output_tokens", "total_tokens")
            if (counts := [_token_count(each, name) for each in self._usages if getattr(each, name) is not None])
        }
        total = counted.get("total_tokens", counted.get("input_tokens", 0) + counted.get("output_tokens", 0))
        details: JSON = {}
        for each in self._usages:
            details.update(each.details)
        return {"usage": {**details, **counted} or None, "tokens_used": total or None}

    def _flush(self) -> None:
        if self._buffer:
            last = self._parts[-1]
            last["text"] = "".join([last["text"], *self._buffer])
            self._buffer.clear()


def undecided(part: Mapping[str, Any]) -> bool:
    """Whether a tool call waits for the user."""
    return bool(part.get("requires_approval")) and "approval" not in part


def decided_part(part: JSON, decided: Mapping[str, str | None]) -> JSON:
    """The part, with the decision if it is a decided tool call."""
    decision = decided.get(part["id"]) if part["type"] == "tool_call" and undecided(part) else None
    return {**part, "approval": decision} if decision else part


def _part_of(event: ToolCall | ToolResult | Component) -> JSON:
    if isinstance(event, ToolCall):
        part = {"type": "tool_call", "id": _name(event.id, 255), "name": _name(event.name, 255)}
        part["arguments"] = _json(event.arguments)
        return {**part, "requires_approval": True} if event.requires_approval else part
    if isinstance(event, ToolResult):
        part = {"type": "tool_result", "tool_call_id": _name(event.tool_call_id, 255), "content": _json(event.content)}
        return {**part, "is_error": True} if event.is_error else part
    return {"type": "component", "component_type": _name(event.type, 255), "data": _json(event.data)}


def _name(value: Any, max_length: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= max_length:
        raise ResponderError(f"The responder gave a name or id that is not a text of 1 to {max_length} characters.")
    return _sanitized(value)


def _json(value: Any) -> Any:
    """*value* as JSON that every database can store. Raises `ResponderError` if it is not JSON."""
    try:
        if not rules.is_deeper(value, rules.MAX_DEPTH):
            return _sanitized_json(json.loads(encoded(value)))
    except (ValueError, TypeError, RecursionError) as error:
        raise ResponderError("The responder yielded an event with a value that is not JSON.") from error
    raise ResponderError("The responder yielded an event with a value that is nested too deeply.")


def _sanitized_json(value: Any) -> Any:
    if isinstance(value, str):
        return _sanitized(value)
    if isinstance(value, dict):
        return {_sanitized(name): _sanitized_json(one) for name, one in value.items()}
    return [_sanitized_json(one) for one in value] if isinstance(value, list) else value


def _checked_usage(usage: Usage) -> Usage:
    if not isinstance(usage.details, Mapping):
        raise ResponderError("The details of a usage are not a JSON object.")
    return dataclasses.replace(usage, details=_json(dict(usage.details)))


def _token_count(usage: Usage, name: str) -> int:
    value = getattr(usage, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0


def _require_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ResponderError(f"The responder yielded a {type(value).__name__} where a text belongs.")
    return value


def _sanitized(text: str) -> str:
    """*text* as every database can store it: lone surrogates and NUL become U+FFFD."""
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _has_surrogates(text) else text
    return joined.replace("\0", "\ufffd")


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
