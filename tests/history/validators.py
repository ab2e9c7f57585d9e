"""What each provider accepts, as programs: every function raises AssertionError with the rule that was broken.

Written from the providers' API references and from the refusals people report, not from our renderer. Only for a part
unknown type (`FOREIGN`) there is an exception: OpenAI-compatible servers have types of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

JSON = dict[str, Any]

FOREIGN = ("x_widget", "video_url")
"""Part types that tests store and no format knows."""


def keys(thing: Any, required: Iterable[str], optional: Iterable[str] = ()) -> None:
    """The object has all required keys and none that is not named."""
    assert isinstance(thing, dict), f"not an object: {thing!r}"
    assert set(required) <= thing.keys(), f"missing {set(required) - thing.keys()} in {thing!r}"
    assert thing.keys() <= {*required, *optional}, f"unknown {thing.keys() - {*required, *optional}} in {thing!r}"


def words(text: Any) -> None:
    assert isinstance(text, str), f"not text: {text!r}"
    assert text, "empty text"


def url(value: Any) -> None:
    assert isinstance(value, str), f"not a url: {value!r}"
    assert re.match(r"https?://.|data:[\w.+-]+/[\w.+-]+;base64,.", value), f"nothing a provider could fetch: {value!r}"


def arguments(text: Any) -> None:
    """Arguments are the JSON text of an object, in strict JSON."""
    assert isinstance(text, str), f"arguments must be text: {text!r}"
    assert isinstance(json.loads(text, parse_constant=lambda name: 1 / 0), dict), f"arguments are no object: {text!r}"


def serialisable(messages: Any) -> None:
    assert isinstance(messages, list), "not a list"
    json.dumps(messages, allow_nan=False)


# --- OpenAI chat completions


def openai(messages: Any) -> None:
    """POST /v1/chat/completions takes these messages."""
    serialisable(messages)
    seen: set[str] = set()
    waiting: set[str] = set()
    for message in messages:
        role = message.get("role")
        if waiting or role == "tool":
            keys(message, ("role", "content", "tool_call_id"))
            assert role == "tool", f"calls {waiting} must be answered before {message!r}"
            assert message["tool_call_id"] in waiting, f"answers no waiting call: {message!r}"
            assert isinstance(message["content"], str), "a tool's content is text"
            waiting.remove(message["tool_call_id"])
        elif role == "assistant":
            waiting = openai_assistant(message, seen)
        else:
            assert role in ("user", "system", "developer"), f"unknown role {role!r}"
            keys(message, ("role", "content"))
            openai_content(message["content"], media=role == "user")
    assert not waiting, f"calls without an answer: {waiting}"


def openai_assistant(message: JSON, seen: set[str]) -> set[str]:
    keys(message, ("role", "content"), ("tool_calls",))
    if message["content"] is not None or "tool_calls" not in message:
        openai_content(message["content"], media=False)
    if "tool_calls" not in message:
        return set()
    assert 0 < len(message["tool_calls"]) <= 128, "tool_calls are 1 to 128"
    for call in message["tool_calls"]:
        keys(call, ("id", "type", "function"))
        keys(call["function"], ("name", "arguments"))
        call_id(call["id"], seen)
        assert call["type"] == "function", "our calls are functions"
        tool_name(call["function"]["name"])
        arguments(call["function"]["arguments"])
    return {call["id"] for call in message["tool_calls"]}


def openai_content(content: Any, *, media: bool) -> None:
    if isinstance(content, str):
        return words(content)
    assert isinstance(content, list), f"neither text nor parts: {content!r}"
    assert content, "empty list of parts"
    for part in content:
        if part["type"] in FOREIGN:
            continue
        if part["type"] == "text":
            keys(part, ("type", "text"))
            words(part["text"])
        else:
            assert media, f"{part['type']} is only for users"
            OPENAI_MEDIA[part["type"]](part)


def openai_image(part: JSON) -> None:
    keys(part, ("type", "image_url"))
    keys(part["image_url"], ("url",), ("detail",))
    url(part["image_url"]["url"])


def openai_audio(part: JSON) -> None:
    keys(part, ("type", "input_audio"))
    keys(part["input_audio"], ("data", "format"))
    words(part["input_audio"]["data"])
    assert part["input_audio"]["format"] in ("wav", "mp3"), "only wav and mp3"


def openai_file(part: JSON) -> None:
    keys(part, ("type", "file"))
    keys(part["file"], (), ("file_id", "file_data", "filename"))
    assert "file_id" in part["file"] or part["file"]["file_data"].startswith("data:"), "neither an upload nor data"


OPENAI_MEDIA: dict[str, Callable[[JSON], None]] = {
    "image_url": openai_image,
    "input_audio": openai_audio,
    "file": openai_file,
}


def call_id(value: Any, seen: set[str]) -> None:
    """OpenAI stops at 40 characters, Anthropic knows this alphabet, both want every id once."""
    assert isinstance(value, str), f"not an id: {value!r}"
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", value), f"not an id: {value!r}"
    assert value not in seen, f"id used twice: {value!r}"
    seen.add(value)


def tool_name(value: Any) -> None:
    assert isinstance(value, str), f"not a tool name: {value!r}"
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value), f"not a tool name: {value!r}"


# --- OpenAI Responses


def responses(items: Any) -> None:
    """POST /v1/responses takes these as its input."""
    serialisable(items)
    seen: set[str] = set()
    waiting: set[str] = set()
    for item in items:
        if item.get("type") == "function_call":
            keys(item, ("type", "call_id", "name", "arguments"))
            call_id(item["call_id"], seen)
            tool_name(item["name"])
            arguments(item["arguments"])
            waiting.add(item["call_id"])
        elif item.get("type") == "function_call_output":
            keys(item, ("type", "call_id", "output"))
            assert item["call_id"] in waiting, f"No tool call found for function call output: {item!r}"
            waiting.remove(item["call_id"])
            if not isinstance(item["output"], str):
                responses_parts(item["output"])
        else:
            responses_message(item)
    assert not waiting, f"No tool output found for function calls {waiting}"


def responses_message(item: JSON) -> None:
    keys(item, ("role", "content"))
    assert item["role"] in ("user", "assistant", "system", "developer"), f"unknown role {item['role']!r}"
    if isinstance(item["content"], str):
        words(item["content"])
    else:
        assert item["role"] == "user", "parts are only written for users"
        responses_parts(item["content"])


def responses_parts(parts: Any) -> None:
    assert isinstance(parts, list), f"neither text nor parts: {parts!r}"
    assert parts, "empty list of parts"
    for part in parts:
        if part["type"] == "input_text":
            keys(part, ("type", "text"))
            words(part["text"])
        elif part["type"] == "input_image":
            keys(part, ("type", "detail"), ("image_url", "file_id"))
            assert "file_id" in part or url(part["image_url"]) is None, "an image needs a source"
        else:
            assert part["type"] == "input_file", f"unknown part {part['type']!r}"
            keys(part, ("type",), ("filename", "file_data", "file_url", "file_id"))
            assert "file_id" in part or url(part.get("file_url") or part["file_data"]) is None, "a file needs a source"


# --- Anthropic


def anthropic(messages: Any) -> None:
    """POST /v1/messages takes these messages."""
    serialisable(messages)
    seen: set[str] = set()
    asked: list[str] = []
    for index, message in enumerate(messages):
        keys(message, ("role", "content"))
        assert message["role"] == ("user", "assistant")[index % 2], "roles must alternate, beginning with the user"
        blocks = anthropic_blocks(message["content"])
        if message["role"] == "user":
            anthropic_user(blocks, asked)
            asked = []
        else:
            asked = anthropic_assistant(blocks, seen)
    assert not asked, f"`tool_use` ids were found without `tool_result` blocks immediately after: {asked}"
    if messages and messages[-1]["role"] == "assistant":
        last = anthropic_blocks(messages[-1]["content"])[-1]
        assert last["text"] == last["text"].rstrip(), "final assistant content cannot end with trailing whitespace"


def anthropic_blocks(content: Any) -> list[JSON]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    assert isinstance(blocks, list), f"neither text nor blocks: {content!r}"
    assert blocks, "messages must have non-empty content"
    return blocks


def anthropic_user(blocks: list[JSON], asked: list[str]) -> None:
    results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    assert sorted(results) == sorted(asked), f"asked {asked}, answered {results}"
    for index, block in enumerate(blocks):
        if block["type"] != "tool_result":
            anthropic_shown(block)
            continue
        assert index < len(asked), "tool results come first"
        keys(block, ("type", "tool_use_id"), ("content", "is_error"))
        if "content" in block:
            for inner in anthropic_blocks(block["content"]):
                anthropic_shown(inner)


def anthropic_shown(block: JSON) -> None:
    if block["type"] == "text":
        return anthropic_text(block)
    assert block["type"] in ("image", "document"), f"{block['type']} is not for users"
    keys(block, ("type", "source"))
    source = block["source"]
    if source["type"] == "base64":
        keys(source, ("type", "media_type", "data"))
        images = ("image/jpeg", "image/png", "image/gif", "image/webp")
        assert source["media_type"] in (images if block["type"] == "image" else ("application/pdf",)), source
        words(source["data"])
    elif source["type"] == "url":
        keys(source, ("type", "url"))
        url(source["url"])
    elif source["type"] == "text":
        keys(source, ("type", "media_type", "data"))
        assert block["type"] == "document", "text is a document"
    else:
        keys(source, ("type", "file_id"))
        assert source["type"] == "file", f"unknown source {source!r}"


def anthropic_text(block: JSON) -> None:
    keys(block, ("type", "text"))
    words(block["text"])
    assert block["text"].strip(), "text content blocks must contain non-whitespace text"


def anthropic_assistant(blocks: list[JSON], seen: set[str]) -> list[str]:
    asked = []
    for block in blocks:
        if block["type"] == "tool_use":
            keys(block, ("type", "id", "name", "input"))
            call_id(block["id"], seen)
            tool_name(block["name"])
            assert isinstance(block["input"], dict), "input must be an object"
            asked.append(block["id"])
        elif block["type"] == "text":
            assert not asked, "tool_use blocks end a message"
            anthropic_text(block)
        elif block["type"] == "thinking":
            keys(block, ("type", "thinking", "signature"))
            words(block["signature"])
        else:
            keys(block, ("type", "data"))
            assert block["type"] == "redacted_thinking", f"{block['type']} is not for the assistant"
    assert "thinking" not in blocks[-1]["type"], "the final block cannot be thinking"
    return asked


# --- LangChain


def langchain(messages: Any) -> None:
    """`messages_from_dict` makes messages of these, and a chat model behind it accepts them."""
    serialisable(messages)
    seen: set[str] = set()
    waiting: set[str] = set()
    for message in messages:
        keys(message, ("type", "data"))
        kind, data = message["type"], message["data"]
        if waiting or kind == "tool":
            assert kind == "tool", f"calls {waiting} must be answered before {message!r}"
            keys(data, ("content", "tool_call_id"), ("name", "status"))
            assert isinstance(data["content"], str), "a tool's content is text"
            assert data["tool_call_id"] in waiting, f"answers no waiting call: {message!r}"
            assert data["status"] in ("success", "error"), "unknown status"
            waiting.remove(data["tool_call_id"])
            continue
        assert kind in ("human", "ai", "system"), f"unknown type {kind!r}"
        keys(data, ("content",), ("id", "tool_calls") if kind == "ai" else ("id", "additional_kwargs"))
        if data["content"] or not data.get("tool_calls"):
            openai_content(data["content"], media=kind == "human")
        waiting = {langchain_call(call, seen) for call in data.get("tool_calls", ())}
    assert not waiting, f"calls without an answer: {waiting}"


def langchain_call(call: JSON, seen: set[str]) -> str:
    keys(call, ("name", "args", "id"), ("type",))
    assert isinstance(call["args"], dict), "args must be an object"
    assert call.get("type", "tool_call") == "tool_call", "unknown type of call"
    tool_name(call["name"])
    call_id(call["id"], seen)
    return str(call["id"])


# --- the AI SDK


def ui(messages: Any) -> None:
    """`validateUIMessages` of the AI SDK accepts these."""
    serialisable(messages)
    for message in messages:
        keys(message, ("id", "role", "parts"), ("metadata",))
        words(message["id"])
        assert message["role"] in ("user", "assistant", "system"), f"unknown role {message['role']!r}"
        assert message["parts"], "Message must contain at least one part"
        for part in message["parts"]:
            ui_part(part)


UI_KEYS: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "reasoning": ("text",),
    "file": ("mediaType", "url"),
    "source-url": ("sourceId", "url"),
    "source-document": ("sourceId", "mediaType", "title"),
    "step-start": (),
}


def ui_part(part: JSON) -> None:
    kind = part["type"]
    if kind.startswith("tool-") or kind == "dynamic-tool":
        ui_tool(part)
    elif kind.startswith("data-"):
        keys(part, ("type", "data"), ("id",))
    else:
        assert kind in UI_KEYS, f"unknown part {kind!r}"
        assert all(isinstance(part.get(key), str) for key in UI_KEYS[kind]), f"bad part {part!r}"


def ui_tool(part: JSON) -> None:
    name = ("toolName",) if part["type"] == "dynamic-tool" else ()
    state = part.get("state")
    if state == "output-available":
        keys(part, ("type", *name, "toolCallId", "state", "input", "output"), ("approval",))
    elif state == "output-error":
        keys(part, ("type", *name, "toolCallId", "state", "input", "errorText"), ("approval",))
        words(part["errorText"])
    elif state in UI_APPROVALS:
        keys(part, ("type", *name, "toolCallId", "state", "input", "approval"))
    else:
        assert state == "input-available", f"unknown state {state!r}"
        keys(part, ("type", *name, "toolCallId", "state", "input"))
    if "approval" in part:
        keys(part["approval"], ("id",), ("approved", "reason"))
        words(part["approval"]["id"])
        decision = part["approval"].get("approved")
        assert decision in UI_APPROVALS.get(state, (True,)), f"{state} does not go with {decision}"
    words(part["toolCallId"])


UI_APPROVALS: dict[str, tuple[bool | None, ...]] = {
    "approval-requested": (None,),
    "approval-responded": (True, False),
    "output-denied": (False,),
}
"""What may be decided in a state that tells of an approval; a call that has run was approved."""


VALIDATORS: dict[str, Callable[[Any], None]] = {
    "openai": openai,
    "responses": responses,
    "anthropic": anthropic,
    "langchain": langchain,
    "ui": ui,
}
