"""Histories as input items of OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .common import plain_text, result_entries, result_text, words_of
from .parsing import JSON, Entry, Media, ParsedMessage, Result, json_arguments


def render(history: list[ParsedMessage]) -> list[JSON]:
    """Input items of the Responses API; without ids and reasoning, which it only takes back in complete sets."""
    return [item for parsed in history for item in _items(parsed)]


def _items(parsed: ParsedMessage) -> Iterator[JSON]:
    content = _content(parsed)
    if content:
        yield {"role": parsed.role, "content": content}
    for call in parsed.calls:
        arguments = json_arguments(call.arguments)
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}
        if call.result:
            yield {"type": "function_call_output", "call_id": call.id, "output": _output(call.result)}


def _content(parsed: ParsedMessage) -> str | list[JSON]:
    if parsed.role != "user" or not any(isinstance(entry, Media) for entry in parsed.entries):
        return plain_text(parsed)
    return list(_parts(parsed.entries))


def _output(result: Result) -> str | list[JSON]:
    entries = result_entries(result.content)
    if any(isinstance(entry, Media) for entry in entries):
        return list(_parts(entries))
    return result_text(result)


def _parts(entries: Iterable[Entry]) -> Iterator[JSON]:
    for entry in entries:
        if isinstance(entry, Media) and entry.kind != "audio" and (item := _media(entry)):
            yield item
        elif words := words_of(entry):
            yield {"type": "input_text", "text": words}


def _media(media: Media) -> JSON | None:
    file_id = media.source.get("file_id")
    if media.kind == "image":
        image: JSON = {"type": "input_image", "detail": "auto"}
        if media.url:
            return {**image, "image_url": media.url}
        return {**image, "file_id": file_id} if isinstance(file_id, str) and file_id else None
    if media.url.startswith("data:"):
        return {"type": "input_file", "filename": media.name or "file", "file_data": media.url}
    if media.url:
        return {"type": "input_file", "file_url": media.url}
    return {"type": "input_file", "file_id": file_id} if isinstance(file_id, str) and file_id else None
