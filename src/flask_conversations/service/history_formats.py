"""Turns as each provider wants them: OpenAI chat, OpenAI Responses, Anthropic, LangChain, the AI SDK's UI messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .history_reading import (
    JSON,
    Call,
    Component,
    Entry,
    Media,
    Other,
    Result,
    Step,
    Text,
    Thinking,
    Turn,
    json_arguments,
    json_object,
    json_text,
    read,
)

OPENING = "[The conversation so far:]"
"""The user message that Anthropic gets first where the window begins with the assistant."""

_SYSTEM_ROLES = ("system", "developer")


def leading(turns: list[Turn]) -> list[Turn]:
    """The system and developer messages before anything else was said."""
    count = next((index for index, turn in enumerate(turns) if turn.role not in _SYSTEM_ROLES), len(turns))
    return turns[:count]


# --- what the formats share


def _placeholder(media: Media) -> str:
    """Words for a file where the format has no place for it."""
    return f"[{media.kind}: {media.name}]" if media.name else f"[{media.kind}]"


def _words(entry: Entry) -> str:
    """An entry as text, empty where it has none to show to a model."""
    if isinstance(entry, Text):
        return entry.text
    return _placeholder(entry) if isinstance(entry, Media) else ""


def _plain(turn: Turn) -> str:
    return "\n\n".join(words for words in map(_words, turn.entries) if words)


def result_entries(content: Any) -> list[Entry]:
    """What a tool answered, as text and media."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Text(content)]
    if isinstance(content, list) and content and all(isinstance(part, dict) and "type" in part for part in content):
        return [entry for part in content for entry in _result_part(part)]
    return [Text(json_text(content))]


def _result_part(part: JSON) -> list[Entry]:
    turn = read({"role": "user", "content": [part]})
    entries = [entry for entry in (turn.entries if turn else []) if isinstance(entry, (Text, Media))]
    return [*entries] or [Text(json_text(part))]


def result_text(result: Result) -> str:
    """What a tool answered, as text."""
    return "\n".join(map(_words, result_entries(result.content)))


# --- OpenAI chat completions


def openai(turns: list[Turn]) -> list[JSON]:
    """Chat completions messages: each tool call directly followed by its tool message."""
    return [message for turn in turns for message in _openai_messages(turn)]


def _openai_messages(turn: Turn) -> Iterator[JSON]:
    calls = turn.calls
    content = openai_content(turn)
    if calls:
        yield {"role": turn.role, "content": content or None, "tool_calls": [_openai_call(call) for call in calls]}
    elif content:
        yield {"role": turn.role, "content": content}
    for call in calls:
        if call.result:
            yield {"role": "tool", "tool_call_id": call.id, "content": result_text(call.result)}


def _openai_call(call: Call) -> JSON:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": json_arguments(call.arguments)},
    }


def openai_content(turn: Turn) -> str | list[JSON]:
    """Text where text was stored, parts where parts were stored or a user sent more than text."""
    with_media = turn.role == "user" and any(isinstance(entry, Media) for entry in turn.entries)
    if turn.listed or with_media:
        return [part for entry in turn.entries for part in _openai_part(entry, turn)]
    return _plain(turn)


def _openai_part(entry: Entry, turn: Turn) -> Iterator[JSON]:
    if isinstance(entry, Other):
        if turn.listed and _may_be_openai(entry.source.get("type")):
            yield entry.source
    elif isinstance(entry, Media) and turn.role == "user":
        yield _openai_media(entry)
    elif words := _words(entry):
        yield {"type": "text", "text": words}


def _may_be_openai(kind: Any) -> bool:
    """Whether a part goes out verbatim: compatible servers know types of their own, but none of another family's."""
    foreign = ("source-", "data-", "step-", "tool", "search_result", "container_upload")
    return (
        isinstance(kind, str)
        and kind != ""
        and not kind.startswith(foreign)
        and not kind.endswith(("_tool_result", "_tool_use", "_call", "_call_output"))
    )


def _openai_media(media: Media) -> JSON:
    kind = media.source.get("type")
    if isinstance(kind, str) and kind in _OPENAI_NATIVE and _OPENAI_NATIVE[kind](media.source):
        return media.source
    if media.url and media.kind == "image":
        return {"type": "image_url", "image_url": {"url": media.url}}
    sound = {"audio/wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}.get(media.media_type)
    if media.url.startswith("data:") and media.kind == "audio" and sound:
        return {"type": "input_audio", "input_audio": {"data": media.url.partition(",")[2], "format": sound}}
    if media.url.startswith("data:") and media.kind == "file":
        return {"type": "file", "file": {"filename": media.name or "file", "file_data": media.url}}
    return {"type": "text", "text": _placeholder(media)}


def _holds(part: JSON, key: str, *names: str) -> bool:
    inner = part.get(key)
    return isinstance(inner, dict) and any(isinstance(inner.get(name), str) and inner[name] for name in names)


_OPENAI_NATIVE: dict[str, Callable[[JSON], bool]] = {
    "image_url": lambda part: _holds(part, "image_url", "url"),
    "file": lambda part: _holds(part, "file", "file_id", "file_data"),
    "input_audio": lambda part: _holds(part, "input_audio", "data") and _holds(part, "input_audio", "format"),
}


# --- OpenAI Responses


def responses(turns: list[Turn]) -> list[JSON]:
    """Input items of the Responses API; without ids and reasoning, which it only takes back in complete sets."""
    return [item for turn in turns for item in _responses_items(turn)]


def _responses_items(turn: Turn) -> Iterator[JSON]:
    content = _responses_content(turn)
    if content:
        yield {"role": turn.role, "content": content}
    for call in turn.calls:
        arguments = json_arguments(call.arguments)
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}
        if call.result:
            yield {"type": "function_call_output", "call_id": call.id, "output": _responses_output(call.result)}


def _responses_content(turn: Turn) -> str | list[JSON]:
    if turn.role != "user" or not any(isinstance(entry, Media) for entry in turn.entries):
        return _plain(turn)
    return list(_responses_parts(turn.entries))


def _responses_output(result: Result) -> str | list[JSON]:
    entries = result_entries(result.content)
    if any(isinstance(entry, Media) for entry in entries):
        return list(_responses_parts(entries))
    return result_text(result)


def _responses_parts(entries: Iterable[Entry]) -> Iterator[JSON]:
    for entry in entries:
        if isinstance(entry, Media) and entry.kind != "audio" and (item := _responses_media(entry)):
            yield item
        elif words := _words(entry):
            yield {"type": "input_text", "text": words}


def _responses_media(media: Media) -> JSON | None:
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


# --- Anthropic


def anthropic(turns: list[Turn]) -> list[JSON]:
    """Messages that alternate and begin with the user; the leading system texts are left to `system_prompt`.

    A summary is not in there, so that it is told here.
    """
    messages: list[JSON] = []
    lead = leading(turns)
    for turn in [*(turn for turn in lead if turn.summary), *turns[len(lead) :]]:
        role = "assistant" if turn.role == "assistant" else "user"
        _extend(messages, role, _anthropic_blocks(turn))
        _extend(messages, "user", [_anthropic_result(call) for call in turn.calls if call.result])
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


def _anthropic_blocks(turn: Turn) -> list[JSON]:
    if turn.role in _SYSTEM_ROLES:
        return _anthropic_text(f"<system>{turn.text}</system>") if turn.text.strip() else []
    blocks = [block for entry in turn.entries for block in _anthropic_entry(entry, turn.role)]
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": json_object(call.arguments)}
        for call in turn.calls
    ]
    while blocks and blocks[-1]["type"] in ("thinking", "redacted_thinking"):
        blocks.pop()  # a message must not end in a thought
    return blocks


def _anthropic_text(text: str) -> list[JSON]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _anthropic_entry(entry: Entry, role: str) -> list[JSON]:
    if isinstance(entry, Thinking):
        return _anthropic_thinking(entry.source) if role == "assistant" else []
    if isinstance(entry, Media) and role == "user":
        return [_anthropic_media(entry)]
    return _anthropic_text(_words(entry))


def _anthropic_thinking(source: JSON) -> list[JSON]:
    """A thought goes back only with its signature: an interrupted one has none."""
    keys = ("data",) if source.get("type") == "redacted_thinking" else ("thinking", "signature")
    if source.get("type") == "reasoning" or not all(isinstance(source.get(key), str) and source[key] for key in keys):
        return []
    return [{"type": source["type"], **{key: source[key] for key in keys}}]


_ANTHROPIC_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def _anthropic_media(media: Media) -> JSON:
    kind = "image" if media.kind == "image" else "document"
    source = _anthropic_source(media)
    return {"type": kind, "source": source} if source else {"type": "text", "text": _placeholder(media)}


def _anthropic_source(media: Media) -> JSON | None:
    stored = media.source.get("source")
    if isinstance(stored, dict) and stored.get("type") == "file" and isinstance(stored.get("file_id"), str):
        return {"type": "file", "file_id": stored["file_id"]}
    if isinstance(stored, dict) and stored.get("type") == "text" and isinstance(stored.get("data"), str):
        return {"type": "text", "media_type": "text/plain", "data": stored["data"]} if stored["data"].strip() else None
    accepted = _ANTHROPIC_IMAGES if media.kind == "image" else ("application/pdf",)
    if media.url.startswith("data:"):
        data = media.url.partition(",")[2]
        return (
            {"type": "base64", "media_type": media.media_type, "data": data} if media.media_type in accepted else None
        )
    fetchable = media.kind == "image" or media.media_type in ("", "application/pdf")
    return {"type": "url", "url": media.url} if media.url and media.kind != "audio" and fetchable else None


def _anthropic_result(call: Call) -> JSON:
    block: JSON = {"type": "tool_result", "tool_use_id": call.id}
    entries = result_entries(call.result.content if call.result else None)
    content = [part for entry in entries for part in _anthropic_entry(entry, "user")]
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


# --- LangChain


def langchain(turns: list[Turn]) -> list[JSON]:
    """Message dicts for `messages_from_dict`; media in the OpenAI spelling, which every chat model there reads."""
    return [message for turn in turns for message in _langchain_messages(turn)]


_LANGCHAIN_TYPES = {"user": "human", "assistant": "ai", "system": "system", "developer": "system"}


def _langchain_messages(turn: Turn) -> Iterator[JSON]:
    data: JSON = {"content": openai_content(turn)}
    if not data["content"] and not turn.calls:
        return
    if isinstance(turn.message.get("id"), str):
        # frameworks take two messages of one id for two versions of one message
        data["id"] = turn.message["id"] if turn.step == 1 else f"{turn.message['id']}:{turn.step}"
    if turn.role == "developer":
        data["additional_kwargs"] = {"__openai_role__": "developer"}
    if calls := turn.calls:
        data["tool_calls"] = [_langchain_call(call) for call in calls]
    yield {"type": _LANGCHAIN_TYPES[turn.role], "data": data}
    for call in calls:
        if call.result:
            yield {"type": "tool", "data": _langchain_result(call, call.result)}


def _langchain_call(call: Call) -> JSON:
    return {"type": "tool_call", "id": call.id, "name": call.name, "args": json_object(call.arguments)}


def _langchain_result(call: Call, result: Result) -> JSON:
    status = "error" if result.failed else "success"
    return {"tool_call_id": call.id, "name": call.name, "content": result_text(result), "status": status}


# --- the AI SDK's UI messages


def ui(turns: list[Turn]) -> list[JSON]:
    """UI messages: what a chat page shows, calls that still wait for an answer or an approval included."""
    messages = (_ui_message(turn, index) for index, turn in enumerate(turns))
    return [message for message in messages if message["parts"]]


def _ui_message(turn: Turn, index: int) -> JSON:
    message_id = turn.message.get("id")
    return {
        "id": message_id if isinstance(message_id, str) and message_id else f"message-{index}",
        "role": "system" if turn.role == "developer" else turn.role,
        "metadata": _ui_metadata(turn),
        "parts": [part for entry in turn.entries for part in _ui_part(entry, turn)],
    }


def _ui_metadata(turn: Turn) -> JSON:
    stored = turn.message.get("metadata")
    known = ("seq", "parent_id", "status", "model", "created_at")
    own = {key: turn.message[key] for key in known if turn.message.get(key) is not None}
    return {**own, **stored} if isinstance(stored, dict) else own


def _ui_part(entry: Entry, turn: Turn) -> Iterator[JSON]:
    if isinstance(entry, Text):
        yield {"type": "text", "text": entry.text}
    elif isinstance(entry, Call):
        yield _ui_call(entry, turn)
    elif isinstance(entry, Media):
        yield _ui_media(entry)
    elif isinstance(entry, Other):
        yield _ui_other(entry.source)
    elif isinstance(entry, Thinking) and entry.text:
        yield {"type": "reasoning", "text": entry.text}
    elif isinstance(entry, Step):
        yield {"type": "step-start"}
    elif isinstance(entry, Component):
        yield _ui_component(entry.source)


def _ui_component(part: JSON) -> JSON:
    kind = part.get("component_type")
    return _ui_data(kind, part.get("data")) if isinstance(kind, str) and kind else _ui_data("component", part)


def _ui_data(kind: str, data: Any) -> JSON:
    return {"type": f"data-{re.sub(r'[^A-Za-z0-9_-]', '-', kind) or 'part'}", "data": data}


def _ui_call(call: Call, turn: Turn) -> JSON:
    if call.source and _is_ui_approval(call.source) and (not call.result or call.source["state"] == "output-denied"):
        return call.source
    part: JSON = {"type": f"tool-{call.name}", "toolCallId": call.id, "input": json_object(call.arguments)}
    # whoever answers a request names the approval: the call is all there is to name
    if call.approval == "denied":
        return {**part, "state": "output-denied", "approval": {"id": call.id, "approved": False}}
    if call.approval == "approved":
        part["approval"] = {"id": call.id, "approved": True}
    if call.result and call.result.failed:
        return {**part, "state": "output-error", "errorText": result_text(call.result) or "The tool failed."}
    if call.result:
        return {**part, "state": "output-available", "output": call.result.content}
    if turn.message.get("status") in ("interrupted", "failed"):
        return {**part, "state": "output-error", "errorText": "The answer was interrupted before the tool had run."}
    if call.approval == "requested":
        return {**part, "state": "approval-requested", "approval": {"id": call.id}}
    return {**part, "state": "approval-responded" if call.approval else "input-available"}


def _is_ui_approval(part: JSON) -> bool:
    """Whether a stored part of the AI SDK says where its approval stands, in the shape the AI SDK insists on."""
    approval = part.get("approval")
    if not isinstance(approval, dict) or not isinstance(approval.get("id"), str) or "input" not in part:
        return False
    approved, state = approval.get("approved"), part["state"]
    return (
        (state == "approval-requested" and "approved" not in approval)
        or (state == "approval-responded" and isinstance(approved, bool))
        or (state == "output-denied" and approved is False)
    )


def _ui_media(media: Media) -> JSON:
    url = media.url or media.source.get("url")
    if not isinstance(url, str) or not url:
        return {"type": "text", "text": _placeholder(media)}
    fallback = "application/octet-stream" if media.kind == "file" else f"{media.kind}/*"
    part = {"type": "file", "mediaType": media.media_type or fallback, "url": url}
    return {**part, "filename": media.name} if media.name else part


_UI_NATIVE: dict[str, tuple[str, ...]] = {
    "source-url": ("sourceId", "url"),
    "source-document": ("sourceId", "mediaType", "title"),
}


def _ui_other(part: JSON) -> JSON:
    """A type of the AI SDK as it is; any other verbatim inside a data part, the place it has for what is one's own."""
    kind = part.get("type")
    if isinstance(kind, str) and kind in _UI_NATIVE and all(isinstance(part.get(k), str) for k in _UI_NATIVE[kind]):
        return part
    if isinstance(kind, str) and kind.startswith("data-") and "data" in part:
        return part
    return _ui_data(kind if isinstance(kind, str) else "", part)


FORMATS: dict[str, Callable[[list[Turn]], list[JSON]]] = {
    "openai": openai,
    "responses": responses,
    "anthropic": anthropic,
    "langchain": langchain,
    "ui": ui,
}

NAMED_FORMATS = ("langchain", "ui")
"""Those whose messages carry the ids of the stored ones."""
