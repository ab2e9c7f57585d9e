"""Histories as message dicts of LangChain."""

from __future__ import annotations

from collections.abc import Iterator

from .common import result_text
from .openai import content_of
from .parsing import JSON, Call, ParsedMessage, Result, json_object


def render(history: list[ParsedMessage]) -> list[JSON]:
    """Message dicts for `messages_from_dict`; media in the format of OpenAI, which every chat model of LangChain reads."""
    return [message for parsed in history for message in _messages(parsed)]


_TYPES = {"user": "human", "assistant": "ai", "system": "system", "developer": "system"}


def _messages(parsed: ParsedMessage) -> Iterator[JSON]:
    data: JSON = {"content": content_of(parsed)}
    if not data["content"] and not parsed.calls:
        return
    if isinstance(parsed.source.get("id"), str):
        # frameworks take two messages of one id for two versions of one message
        data["id"] = parsed.source["id"] if parsed.step == 1 else f"{parsed.source['id']}:{parsed.step}"
    if parsed.role == "developer":
        data["additional_kwargs"] = {"__openai_role__": "developer"}
    if calls := parsed.calls:
        data["tool_calls"] = [_call(call) for call in calls]
    yield {"type": _TYPES[parsed.role], "data": data}
    for call in calls:
        if call.result:
            yield {"type": "tool", "data": _result(call, call.result)}


def _call(call: Call) -> JSON:
    return {"type": "tool_call", "id": call.id, "name": call.name, "args": json_object(call.arguments)}


def _result(call: Call, result: Result) -> JSON:
    status = "error" if result.failed else "success"
    return {"tool_call_id": call.id, "name": call.name, "content": result_text(result), "status": status}
