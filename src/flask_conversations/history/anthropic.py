"""Histories as messages of Anthropic's Messages API."""

from __future__ import annotations

from .common import SYSTEM_ROLES, leading, placeholder_of, result_entries, words_of
from .parsing import JSON, Call, Entry, Media, ParsedMessage, Thinking, json_object

OPENING = "[The conversation so far:]"
"""The user message that Anthropic gets first where the window begins with the assistant."""


def render(history: list[ParsedMessage]) -> list[JSON]:
    """Messages that alternate and begin with the user; the leading system texts are left to `system_prompt`.

    `system_prompt` leaves out summaries, so they are included here.
    """
    messages: list[JSON] = []
    lead = leading(history)
    for parsed in [*(parsed for parsed in lead if parsed.summary), *history[len(lead) :]]:
        role = "assistant" if parsed.role == "assistant" else "user"
        _extend(messages, role, _blocks(parsed))
        _extend(messages, "user", [_result(call) for call in parsed.calls if call.result])
    if messages and messages[0]["role"] != "user":
        messages.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
    _trim_end(messages)
    return [{"role": message["role"], "content": _shortest(message["content"])} for message in messages]


def _extend(messages: list[JSON], role: str, blocks: list[JSON]) -> None:
    """Add blocks to the last message if it is of the same role: two in a row would be refused."""
    if not blocks:
        return
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"].extend(blocks)
    else:
        messages.append({"role": role, "content": blocks})


def _blocks(parsed: ParsedMessage) -> list[JSON]:
    if parsed.role in SYSTEM_ROLES:
        return _text(f"<system>{parsed.text}</system>") if parsed.text.strip() else []
    blocks = [block for entry in parsed.entries for block in _entry(entry, parsed.role)]
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": json_object(call.arguments)}
        for call in parsed.calls
    ]
    while blocks and blocks[-1]["type"] in ("thinking", "redacted_thinking"):
        blocks.pop()  # a message must not end in a thought
    return blocks


def _text(text: str) -> list[JSON]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _entry(entry: Entry, role: str) -> list[JSON]:
    if isinstance(entry, Thinking):
        return _thinking(entry.source) if role == "assistant" else []
    if isinstance(entry, Media) and role == "user":
        return [_media(entry)]
    return _text(words_of(entry))


def _thinking(source: JSON) -> list[JSON]:
    """A thought is sent back only with its signature, which an interrupted one lacks."""
    keys = ("data",) if source.get("type") == "redacted_thinking" else ("thinking", "signature")
    if source.get("type") == "reasoning" or not all(isinstance(source.get(key), str) and source[key] for key in keys):
        return []
    return [{"type": source["type"], **{key: source[key] for key in keys}}]


_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def _media(media: Media) -> JSON:
    kind = "image" if media.kind == "image" else "document"
    source = _source(media)
    return {"type": kind, "source": source} if source else {"type": "text", "text": placeholder_of(media)}


def _source(media: Media) -> JSON | None:
    stored = media.source.get("source")
    if isinstance(stored, dict) and stored.get("type") == "file" and isinstance(stored.get("file_id"), str):
        return {"type": "file", "file_id": stored["file_id"]}
    if isinstance(stored, dict) and stored.get("type") == "text" and isinstance(stored.get("data"), str):
        return {"type": "text", "media_type": "text/plain", "data": stored["data"]} if stored["data"].strip() else None
    accepted = _IMAGES if media.kind == "image" else ("application/pdf",)
    if media.url.startswith("data:"):
        data = media.url.partition(",")[2]
        return (
            {"type": "base64", "media_type": media.media_type, "data": data} if media.media_type in accepted else None
        )
    fetchable = media.kind == "image" or media.media_type in ("", "application/pdf")
    return {"type": "url", "url": media.url} if media.url and media.kind != "audio" and fetchable else None


def _result(call: Call) -> JSON:
    block: JSON = {"type": "tool_result", "tool_use_id": call.id}
    entries = result_entries(call.result.content if call.result else None)
    content = [part for entry in entries for part in _entry(entry, "user")]
    if content:
        block["content"] = _shortest(content)
    if call.result and call.result.failed:
        block["is_error"] = True
    return block


def _trim_end(messages: list[JSON]) -> None:
    """A last message of the assistant is continued by the model, and must not end in white space for that."""
    if messages and messages[-1]["role"] == "assistant":
        last = messages[-1]["content"][-1]
        if last["type"] == "text":
            messages[-1]["content"][-1] = {**last, "text": last["text"].rstrip()}


def _shortest(blocks: list[JSON]) -> str | list[JSON]:
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return str(blocks[0]["text"])
    return blocks
