"""Histories as messages of OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .common import placeholder_of, plain_text, result_text, words_of
from .parsing import JSON, Call, Entry, Media, Other, ParsedMessage, json_arguments


def render(history: list[ParsedMessage]) -> list[JSON]:
    """Chat completions messages: each tool call directly followed by its tool message."""
    return [message for parsed in history for message in _messages(parsed)]


def _messages(parsed: ParsedMessage) -> Iterator[JSON]:
    calls = parsed.calls
    content = content_of(parsed)
    if calls:
        yield {"role": parsed.role, "content": content or None, "tool_calls": [_call(call) for call in calls]}
    elif content:
        yield {"role": parsed.role, "content": content}
    for call in calls:
        if call.result:
            yield {"role": "tool", "tool_call_id": call.id, "content": result_text(call.result)}


def _call(call: Call) -> JSON:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": json_arguments(call.arguments)},
    }


def content_of(parsed: ParsedMessage) -> str | list[JSON]:
    """Text where text was stored, parts where parts were stored or a user sent more than text."""
    with_media = parsed.role == "user" and any(isinstance(entry, Media) for entry in parsed.entries)
    if parsed.listed or with_media:
        return [part for entry in parsed.entries for part in _part(entry, parsed)]
    return plain_text(parsed)


def _part(entry: Entry, parsed: ParsedMessage) -> Iterator[JSON]:
    if isinstance(entry, Other):
        if parsed.listed and _may_be_openai(entry.source.get("type")):
            yield entry.source
    elif isinstance(entry, Media) and parsed.role == "user":
        yield _media(entry)
    elif words := words_of(entry):
        yield {"type": "text", "text": words}


def _may_be_openai(kind: Any) -> bool:
    """Whether a part is sent verbatim: compatible servers have types of their own, but none of other providers."""
    foreign = ("source-", "data-", "step-", "tool", "search_result", "container_upload")
    return (
        isinstance(kind, str)
        and kind != ""
        and not kind.startswith(foreign)
        and not kind.endswith(("_tool_result", "_tool_use", "_call", "_call_output"))
    )


def _media(media: Media) -> JSON:
    kind = media.source.get("type")
    if isinstance(kind, str) and kind in _NATIVE and _NATIVE[kind](media.source):
        return media.source
    if media.url and media.kind == "image":
        return {"type": "image_url", "image_url": {"url": media.url}}
    sound = {"audio/wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}.get(media.media_type)
    if media.url.startswith("data:") and media.kind == "audio" and sound:
        return {"type": "input_audio", "input_audio": {"data": media.url.partition(",")[2], "format": sound}}
    if media.url.startswith("data:") and media.kind == "file":
        return {"type": "file", "file": {"filename": media.name or "file", "file_data": media.url}}
    return {"type": "text", "text": placeholder_of(media)}


def _holds(part: JSON, key: str, *names: str) -> bool:
    inner = part.get(key)
    return isinstance(inner, dict) and any(isinstance(inner.get(name), str) and inner[name] for name in names)


_NATIVE: dict[str, Callable[[JSON], bool]] = {
    "image_url": lambda part: _holds(part, "image_url", "url"),
    "file": lambda part: _holds(part, "file", "file_id", "file_data"),
    "input_audio": lambda part: _holds(part, "input_audio", "data") and _holds(part, "input_audio", "format"),
}
