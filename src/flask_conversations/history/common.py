"""Common to the formats: placeholders for files, results of tools, and the instructions at the beginning."""

from __future__ import annotations

from typing import Any

from .parsing import JSON, Entry, Media, ParsedMessage, Result, Text, json_text, read

SYSTEM_ROLES = ("system", "developer")


def leading(history: list[ParsedMessage]) -> list[ParsedMessage]:
    """The system and developer messages before all others."""
    count = next((index for index, parsed in enumerate(history) if parsed.role not in SYSTEM_ROLES), len(history))
    return history[:count]


def placeholder_of(media: Media) -> str:
    """A text in place of a file that the format cannot carry."""
    return f"[{media.kind}: {media.name}]" if media.name else f"[{media.kind}]"


def words_of(entry: Entry) -> str:
    """An entry as text for a model; empty if it has none."""
    if isinstance(entry, Text):
        return entry.text
    return placeholder_of(entry) if isinstance(entry, Media) else ""


def plain_text(parsed: ParsedMessage) -> str:
    return "\n\n".join(words for words in map(words_of, parsed.entries) if words)


def result_entries(content: Any) -> list[Entry]:
    """The result of a tool, as text and media."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Text(content)]
    if isinstance(content, list) and content and all(isinstance(part, dict) and "type" in part for part in content):
        return [entry for part in content for entry in _result_part(part)]
    return [Text(json_text(content))]


def _result_part(part: JSON) -> list[Entry]:
    parsed = read({"role": "user", "content": [part]})
    entries = [entry for entry in (parsed.entries if parsed else []) if isinstance(entry, (Text, Media))]
    return [*entries] or [Text(json_text(part))]


def result_text(result: Result) -> str:
    """The result of a tool, as text."""
    return "\n".join(map(words_of, result_entries(result.content)))
