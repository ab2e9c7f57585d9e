"""The answer of a turn so far, in the format of the next request to the endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ...turns import Event, Reasoning, ToolCall, ToolResult
from .tools import JSON, arguments_of

Part = Mapping[str, Any]

NO_RESULT = "The tool did not run."


def part_of(event: str | Event) -> JSON | None:
    """An event as a part of the answer; None if it is not sent to the model."""
    if isinstance(event, str):
        return {"type": "text", "text": event}
    if isinstance(event, ToolCall):
        return {"type": "tool_call", "id": event.id, "name": event.name, "arguments": event.arguments}
    if isinstance(event, ToolResult):
        return {"type": "tool_result", "tool_call_id": event.tool_call_id, "content": event.content}
    if isinstance(event, Reasoning):
        return {"type": "reasoning", "text": event.text}
    return None


def ids_of(parts: Iterable[Part], kind: str, key: str) -> set[str]:
    """The ids of the parts of one kind."""
    return {str(part.get(key)) for part in parts if part.get("type") == kind}


def messages_of(parts: Iterable[Part]) -> list[JSON]:
    """Chat completions messages of an answer: calls, each followed by the result of its tool, and texts."""
    parts = [*parts]
    results = {part.get("tool_call_id"): part.get("content") for part in parts if part.get("type") == "tool_result"}
    messages: list[JSON] = []
    for part in parts:
        kind = part.get("type")
        if kind == "text" and part.get("text"):
            _close(messages, results)
            _assistant(messages)["content"] += part["text"]
        elif kind == "tool_call":
            _assistant(messages).setdefault("tool_calls", []).append(_call(part))
        elif kind == "tool_result":
            _close(messages, results)
    _close(messages, results)
    return [{**each, "content": each["content"] or None} if each.get("tool_calls") else each for each in messages]


def _assistant(messages: list[JSON]) -> JSON:
    """The unfinished message; a new one after a tool."""
    if not messages or messages[-1]["role"] == "tool":
        messages.append({"role": "assistant", "content": ""})
    return messages[-1]


def _close(messages: list[JSON], results: Mapping[Any, Any]) -> None:
    """Add the results of the calls of the last message behind it."""
    calls = messages[-1].get("tool_calls", []) if messages else []
    for call in calls:
        content = results.get(call["id"], NO_RESULT)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})


def _call(part: Part) -> JSON:
    # arguments must be an object; the result of the call has told the model so
    arguments = arguments_of(ToolCall("", "", part.get("arguments"))) or {}
    function = {"name": part.get("name"), "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": part.get("id"), "type": "function", "function": function}
