"""Histories as UI messages of the AI SDK, as a chat page shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .common import placeholder_of, result_text
from .parsing import JSON, Call, Component, Entry, Media, Other, ParsedMessage, Step, Text, Thinking, json_object


def render(history: list[ParsedMessage]) -> list[JSON]:
    """UI messages for a chat page, calls that still wait for a result or an approval included."""
    messages = (_message(parsed, index) for index, parsed in enumerate(history))
    return [message for message in messages if message["parts"]]


def _message(parsed: ParsedMessage, index: int) -> JSON:
    message_id = parsed.source.get("id")
    return {
        "id": message_id if isinstance(message_id, str) and message_id else f"message-{index}",
        "role": "system" if parsed.role == "developer" else parsed.role,
        "metadata": _metadata(parsed),
        "parts": [part for entry in parsed.entries for part in _part(entry, parsed)],
    }


def _metadata(parsed: ParsedMessage) -> JSON:
    stored = parsed.source.get("metadata")
    known = ("seq", "parent_id", "status", "model", "created_at")
    own = {key: parsed.source[key] for key in known if parsed.source.get(key) is not None}
    return {**own, **stored} if isinstance(stored, dict) else own


def _part(entry: Entry, parsed: ParsedMessage) -> Iterator[JSON]:
    if isinstance(entry, Text):
        yield {"type": "text", "text": entry.text}
    elif isinstance(entry, Call):
        yield _call(entry, parsed)
    elif isinstance(entry, Media):
        yield _media(entry)
    elif isinstance(entry, Other):
        yield _other(entry.source)
    elif isinstance(entry, Thinking) and entry.text:
        yield {"type": "reasoning", "text": entry.text}
    elif isinstance(entry, Step):
        yield {"type": "step-start"}
    elif isinstance(entry, Component):
        yield _component(entry.source)


def _component(part: JSON) -> JSON:
    kind = part.get("component_type")
    return _data(kind, part.get("data")) if isinstance(kind, str) and kind else _data("component", part)


def _data(kind: str, data: Any) -> JSON:
    return {"type": f"data-{re.sub(r'[^A-Za-z0-9_-]', '-', kind) or 'part'}", "data": data}


def _call(call: Call, parsed: ParsedMessage) -> JSON:
    if call.source and _is_ui_approval(call.source) and (not call.result or call.source["state"] == "output-denied"):
        return call.source
    part: JSON = {"type": f"tool-{call.name}", "toolCallId": call.id, "input": json_object(call.arguments)}
    # a response names the approval by this id, which is that of the call
    if call.approval == "denied":
        return {**part, "state": "output-denied", "approval": {"id": call.id, "approved": False}}
    if call.approval == "approved":
        part["approval"] = {"id": call.id, "approved": True}
    if call.result and call.result.failed:
        return {**part, "state": "output-error", "errorText": result_text(call.result) or "The tool failed."}
    if call.result:
        return {**part, "state": "output-available", "output": call.result.content}
    if parsed.source.get("status") in ("interrupted", "failed"):
        return {**part, "state": "output-error", "errorText": "The answer was interrupted before the tool had run."}
    if call.approval == "requested":
        return {**part, "state": "approval-requested", "approval": {"id": call.id}}
    return {**part, "state": "approval-responded" if call.approval else "input-available"}


def _is_ui_approval(part: JSON) -> bool:
    """Whether a stored part of the AI SDK has an approval in the form that the AI SDK requires."""
    approval = part.get("approval")
    if not isinstance(approval, dict) or not isinstance(approval.get("id"), str) or "input" not in part:
        return False
    approved, state = approval.get("approved"), part["state"]
    return (
        (state == "approval-requested" and "approved" not in approval)
        or (state == "approval-responded" and isinstance(approved, bool))
        or (state == "output-denied" and approved is False)
    )


def _media(media: Media) -> JSON:
    url = media.url or media.source.get("url")
    if not isinstance(url, str) or not url:
        return {"type": "text", "text": placeholder_of(media)}
    fallback = "application/octet-stream" if media.kind == "file" else f"{media.kind}/*"
    part = {"type": "file", "mediaType": media.media_type or fallback, "url": url}
    return {**part, "filename": media.name} if media.name else part


_NATIVE: dict[str, tuple[str, ...]] = {
    "source-url": ("sourceId", "url"),
    "source-document": ("sourceId", "mediaType", "title"),
}


def _other(part: JSON) -> JSON:
    """A part of one of the AI SDK's types as it is; any other verbatim inside a data part."""
    kind = part.get("type")
    if isinstance(kind, str) and kind in _NATIVE and all(isinstance(part.get(k), str) for k in _NATIVE[kind]):
        return part
    if isinstance(kind, str) and kind.startswith("data-") and "data" in part:
        return part
    return _data(kind if isinstance(kind, str) else "", part)
