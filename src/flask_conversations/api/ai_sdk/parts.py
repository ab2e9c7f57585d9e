"""The parts of an answer as chunks of the AI SDK's UI message stream.

A page that has read the chunks has the same message as `get_conversation_history(format="ui")` returns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

JSON = dict[str, Any]


class Calls:
    """The tool calls of an answer with their results, and the parts between them."""

    def __init__(self) -> None:
        self._calls: dict[str, Mapping[str, Any]] = {}
        self._settled: set[str] = set()
        self._unsent: set[str] = set()
        """Calls that this page may lack: they are sent again before their results."""
        self.all_known = True
        """Whether all calls that were sent before are known here."""
        self._has_calls = self._is_answered = self._is_settled = False

    def remember(self, parts: Sequence[Mapping[str, Any]], *, seen: bool) -> Iterator[JSON]:
        """Record the parts that were sent before; *seen* if the page still has them. Yields the denials since then."""
        for part in parts:
            for _ in self.chunks(part, ""):
                pass
        self._unsent = set() if seen else set(self._calls)
        for part in reversed(parts):
            if part.get("type") != "tool_call":
                return
            if part.get("approval") == "denied":
                yield from self._resend(part["id"])
                yield {"type": "tool-output-denied", "toolCallId": part["id"]}

    def chunks(self, part: Mapping[str, Any], name: str) -> Iterator[JSON]:
        """The chunks of a part other than text; *name* becomes the id of a data part."""
        if part.get("type") == "tool_call":
            yield from self._call(part)
        elif part.get("type") == "tool_result":
            yield from self._result(part)
        elif part.get("type") in ("text", "reasoning") or "delta" in part:
            yield from self.next_step()
        else:
            yield from self.next_step()
            yield {**data_part(part), "id": name}

    def next_step(self) -> Iterator[JSON]:
        """Begin a new step if tool results came before: the model has continued with them."""
        if self._is_answered or self._is_settled:
            self._has_calls = self._is_answered = self._is_settled = False
            yield {"type": "finish-step"}
            yield {"type": "start-step"}

    def unfinished(self, why: str) -> Iterator[JSON]:
        """Close the calls that get no result any more."""
        for name in self._open():
            yield from self._resend(name)
            yield {"type": "tool-output-error", "toolCallId": name, "errorText": why}

    def done(self) -> Iterator[JSON]:
        """Close the approved calls without a result: the page would wait for them forever."""
        for name in self._open():
            if self._calls[name].get("approval") == "approved":
                yield from self._resend(name)
                yield {"type": "tool-output-available", "toolCallId": name, "output": None}

    def _open(self) -> list[str]:
        return [name for name in self._calls if name not in self._settled]

    def _call(self, part: Mapping[str, Any]) -> Iterator[JSON]:
        name = part["id"]
        if name in self._calls and name not in self._settled:
            return  # a repeated call
        if self._is_answered:
            yield from self.next_step()
        self._calls[name] = part
        self._settled.discard(name)
        self._has_calls = True
        yield _input(part)
        approval = part.get("approval")
        if approval == "denied":
            self._is_settled = True
            self._settled.add(name)
            yield {"type": "tool-output-denied", "toolCallId": name}
        elif part.get("requires_approval") and approval is None:
            # an approval has no id of its own: the page answers with the id of the call
            yield {"type": "tool-approval-request", "approvalId": name, "toolCallId": name}

    def _resend(self, name: str) -> Iterator[JSON]:
        if name in self._unsent:
            self._unsent.discard(name)
            yield _input(self._calls[name])

    def _result(self, part: Mapping[str, Any]) -> Iterator[JSON]:
        name = part["tool_call_id"]
        self._is_answered = self._has_calls or not self.all_known
        if name in self._settled or (self.all_known and name not in self._calls):
            return  # the page fails at a result without a call
        self._settled.add(name)
        yield from self._resend(name)
        content = part.get("content")
        if part.get("is_error"):
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            yield {
                "type": "tool-output-error",
                "toolCallId": name,
                "errorText": text if content else "The tool failed.",
            }
        else:
            yield {"type": "tool-output-available", "toolCallId": name, "output": content}


def _input(call: Mapping[str, Any]) -> JSON:
    fields = {"toolCallId": call["id"], "toolName": call["name"], "input": tool_input(call.get("arguments"))}
    return {"type": "tool-input-available", **fields}


def tool_input(arguments: Any) -> JSON:
    """The arguments of a call as an object; any other value as `{"input": text}`."""
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            parsed = arguments
        arguments = parsed if isinstance(parsed, dict) else arguments
    if isinstance(arguments, dict):
        return arguments
    if arguments is None:
        return {}
    return {"input": arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)}


def data_part(part: Mapping[str, Any]) -> JSON:
    """A component, or a part of an unknown type, as a data part of the AI SDK."""
    kind = part.get("component_type")
    if part.get("type") != "component":
        return {"type": _data_type(part.get("type")), "data": dict(part)}
    if isinstance(kind, str) and kind:
        return {"type": _data_type(kind), "data": part.get("data")}
    return {"type": "data-component", "data": dict(part)}


def _data_type(kind: Any) -> str:
    return f"data-{re.sub(r'[^A-Za-z0-9_-]', '-', kind if isinstance(kind, str) else '') or 'part'}"
