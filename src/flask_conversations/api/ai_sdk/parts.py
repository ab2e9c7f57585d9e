"""The parts of an answer as chunks of the AI SDK's UI message stream.

What a page has put together from them is what `get_conversation_history(format="ui")` gives when it is loaded again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

JSON = dict[str, Any]


class Calls:
    """The tool calls of an answer, each with what became of it, and the parts between them."""

    def __init__(self) -> None:
        self._calls: dict[str, Mapping[str, Any]] = {}
        self._settled: set[str] = set()
        self._unseen: set[str] = set()
        """Calls that this page may not have: they are told again before anything is told of them."""
        self.all_known = True
        """Whether no call was told that is not known here."""
        self._has_calls = self._is_answered = self._is_settled = False

    def remember(self, parts: Sequence[Mapping[str, Any]], *, seen: bool) -> Iterator[JSON]:
        """Take note of what was told before; *seen* if the page still has it. Tells what was decided since."""
        for part in parts:
            for _ in self.chunks(part, ""):
                pass
        self._unseen = set() if seen else set(self._calls)
        for part in reversed(parts):
            if part.get("type") != "tool_call":
                return
            if part.get("approval") == "denied":
                yield from self._again(part["id"])
                yield {"type": "tool-output-denied", "toolCallId": part["id"]}

    def chunks(self, part: Mapping[str, Any], name: str) -> Iterator[JSON]:
        """The chunks of a part that is no text; *name* is the id of a part of the page's own."""
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
        """What comes after the answer of a tool was said knowing it: that is a new step."""
        if self._is_answered or self._is_settled:
            self._has_calls = self._is_answered = self._is_settled = False
            yield {"type": "finish-step"}
            yield {"type": "start-step"}

    def unfinished(self, why: str) -> Iterator[JSON]:
        """Close the calls that no tool will answer any more."""
        for name in self._open():
            yield from self._again(name)
            yield {"type": "tool-output-error", "toolCallId": name, "errorText": why}

    def done(self) -> Iterator[JSON]:
        """Close the calls that were approved and have said nothing: the page would wait for them for ever."""
        for name in self._open():
            if self._calls[name].get("approval") == "approved":
                yield from self._again(name)
                yield {"type": "tool-output-available", "toolCallId": name, "output": None}

    def _open(self) -> list[str]:
        return [name for name in self._calls if name not in self._settled]

    def _call(self, part: Mapping[str, Any]) -> Iterator[JSON]:
        name = part["id"]
        if name in self._calls and name not in self._settled:
            return  # said twice
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
            # a response names the approval, and the call is its only name
            yield {"type": "tool-approval-request", "approvalId": name, "toolCallId": name}

    def _again(self, name: str) -> Iterator[JSON]:
        if name in self._unseen:
            self._unseen.discard(name)
            yield _input(self._calls[name])

    def _result(self, part: Mapping[str, Any]) -> Iterator[JSON]:
        name = part["tool_call_id"]
        self._is_answered = self._has_calls or not self.all_known
        if name in self._settled or (self.all_known and name not in self._calls):
            return  # the page would stop at an answer to nothing
        self._settled.add(name)
        yield from self._again(name)
        content = part.get("content")
        if part.get("is_error"):
            words = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            yield {
                "type": "tool-output-error",
                "toolCallId": name,
                "errorText": words if content else "The tool failed.",
            }
        else:
            yield {"type": "tool-output-available", "toolCallId": name, "output": content}


def _input(call: Mapping[str, Any]) -> JSON:
    said = {"toolCallId": call["id"], "toolName": call["name"], "input": tool_input(call.get("arguments"))}
    return {"type": "tool-input-available", **said}


def tool_input(arguments: Any) -> JSON:
    """The arguments of a call as an object; text that is none, as `{"input": text}`."""
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
    """What the page draws itself, as a part of its own."""
    kind = part.get("component_type")
    if part.get("type") != "component":
        return {"type": _data_type(part.get("type")), "data": dict(part)}
    if isinstance(kind, str) and kind:
        return {"type": _data_type(kind), "data": part.get("data")}
    return {"type": "data-component", "data": dict(part)}


def _data_type(kind: Any) -> str:
    return f"data-{re.sub(r'[^A-Za-z0-9_-]', '-', kind if isinstance(kind, str) else '') or 'part'}"
