"""The content of a stored message in any framework's format: text, media, tool calls, tool results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

JSON = dict[str, Any]

ROLES = frozenset({"user", "assistant", "system", "tool", "developer"})
UNSETTLED = ("pending", "streaming")
DENIED = "The user did not allow this tool call."
"""The result of a call that the user has denied, unless the call has one of its own."""


@dataclass(slots=True)
class Text:
    """A text."""

    text: str


@dataclass(slots=True)
class Media:
    """A picture, a sound or a file; `url` is empty where a provider could not fetch it."""

    kind: Literal["image", "audio", "file"]
    url: str
    media_type: str
    name: str
    source: JSON


@dataclass(slots=True)
class Thinking:
    """A model's reasoning: only the provider that signed it takes it back."""

    text: str
    source: JSON


@dataclass(slots=True)
class Other:
    """A part of a type this module does not know."""

    source: JSON


@dataclass(slots=True)
class Component:
    """A component for the user's page, and not for the model."""

    source: JSON


@dataclass(slots=True)
class Step:
    """The model was called anew here, with the results of the tools before."""


@dataclass(slots=True)
class Result:
    """The result of a tool call."""

    call_id: str
    content: Any
    failed: bool = False


@dataclass(slots=True)
class Call:
    """A tool call of the model, with its result once that is found."""

    id: str
    name: str
    arguments: Any
    result: Result | None = None
    source: JSON | None = None
    approval: str | None = None
    """`requested`, `approved` or `denied`, if the call needed the user's approval."""


Entry = Text | Media | Thinking | Other | Component | Step | Call | Result


@dataclass(slots=True)
class ParsedMessage:
    """One stored message, or one step of it, parsed. A call carries its result, so that the two stay together."""

    role: str
    entries: list[Entry]
    source: Mapping[str, Any]
    """The message as it is stored."""
    listed: bool = False
    """Whether the content was stored as a list of parts."""
    results: list[Result] = field(default_factory=list)
    """Results of calls of other messages."""
    step: int = 1
    """The number of this step in its message."""
    summary: bool = False
    """Whether this sums up the messages before it."""

    @property
    def calls(self) -> list[Call]:
        return [entry for entry in self.entries if isinstance(entry, Call)]

    @property
    def text(self) -> str:
        return "\n\n".join(entry.text for entry in self.entries if isinstance(entry, Text))


def read(message: Any) -> ParsedMessage | None:
    """Parse a stored message; None if it is no message. Never raises for invalid content."""
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in ROLES:
        return None
    entries = list(_entries(message, role))
    parsed = ParsedMessage(role, entries, message, listed=isinstance(message.get("content"), list))
    if any(isinstance(entry, (Call, Result)) for entry in entries):
        _sort_tools(parsed)
    if role == "tool":
        parsed.entries = []
    return parsed


# --- the precedence of content, parts and raw


def _entries(message: JSON, role: str) -> Iterator[Entry]:
    """The text of the content, completed from the parts, and both completed from the raw item."""
    entries = _content_entries(message.get("content"), message.get("parts"))
    if role == "user":
        # a client may write user messages: a tool result in one would be a forged answer
        entries = [entry for entry in entries if not isinstance(entry, (Call, Result))]
    raw = list(_read_parts(_raw_parts(message.get("raw"))))
    if not raw:
        yield from entries
    elif not entries:
        yield from raw
    else:
        yield from (entry for entry in raw if isinstance(entry, Thinking))
        yield from entries
        yield from _tools_beside(entries, raw)


def _content_entries(content: Any, parts: Any) -> list[Entry]:
    extra = list(_read_parts(parts)) if parts is not content else []
    if isinstance(content, list):
        # a list is complete, except for tools that are kept in the parts
        listed = list(_read_parts(content))
        return [*listed, *_tools_beside(listed, extra)]
    if not isinstance(content, str) or not content:
        return extra
    if _without_whitespace(entry.text for entry in extra if isinstance(entry, Text)) == _without_whitespace([content]):
        return extra or [Text(content)]  # the same text, with the tools and files between in their order
    return _with_text(extra, content)


def _with_text(entries: list[Entry], content: str) -> list[Entry]:
    """The entries with *content* in place of their texts.

    An edited text takes the place of the last text. If there was none, it comes before calls that still wait, and behind
    calls with results here, since the model then wrote it last.
    """
    last = max((place for place, entry in enumerate(entries) if isinstance(entry, Text)), default=None)
    if last is None:
        last = len(entries) if any(map(_answers, entries)) else 0
    before, after = entries[:last], entries[last:]
    return [one for one in (*before, Text(content), *after) if not isinstance(one, Text) or one.text is content]


def _answers(entry: Entry) -> bool:
    return isinstance(entry, Result) or (isinstance(entry, Call) and entry.result is not None)


def _without_whitespace(texts: Iterable[str]) -> str:
    return "".join("".join(texts).split())


def _tools_beside(known: list[Entry], more: list[Entry]) -> Iterator[Entry]:
    """The calls and results of *more* that *known* lacks."""
    calls = {entry.id for entry in known if isinstance(entry, Call)}
    answered = {entry.call_id for entry in known if isinstance(entry, Result)}
    answered |= {entry.id for entry in known if isinstance(entry, Call) and entry.result}
    for entry in more:
        if isinstance(entry, Call):
            if entry.id not in calls:
                yield entry
        elif isinstance(entry, Result) and entry.call_id not in answered:
            yield entry


def _sort_tools(parsed: ParsedMessage) -> None:
    """Give each result to its call, put those of other messages aside, and mark where a new step begins.

    A waiting call counts once, and not at all in a role without calls. An entry after a result begins a step: the model
    wrote it with that result.
    """
    entries: list[Entry] = []
    waiting: dict[str, Call] = {}
    has_calls = is_settled = is_answered = False
    for entry in parsed.entries:
        if isinstance(entry, Result):
            _take_answer(parsed, entry, waiting)
            is_answered = has_calls
            continue
        if isinstance(entry, Call) and (parsed.role != "assistant" or entry.id in waiting):
            continue
        # parallel calls may carry their own results
        begins = is_answered or (is_settled and not isinstance(entry, Call))
        if begins and not isinstance(entry, Step):
            entries.append(Step())
        if begins or isinstance(entry, Step):
            has_calls = is_settled = is_answered = False
        entries.append(entry)
        if isinstance(entry, Call):
            has_calls = True
            is_settled = is_settled or entry.result is not None or entry.approval == "denied"
            if entry.result is None:
                waiting[entry.id] = entry
    parsed.entries = entries


def _take_answer(parsed: ParsedMessage, result: Result, waiting: dict[str, Call]) -> None:
    if result.content is None and parsed.role == "tool":
        result.content = parsed.source.get("content")
    if parsed.role == "tool" and not result.content and parsed.source.get("status") in UNSETTLED:
        return  # the tool still runs
    if call := waiting.pop(result.call_id, None):
        call.result = result
    else:
        parsed.results.append(result)


# --- the formats of a framework's own item


def _raw_parts(raw: Any) -> list[Any]:
    """The content blocks, calls and results inside an OpenAI, Responses, Anthropic, LangChain or AI SDK item."""
    if isinstance(raw, list):
        return raw
    if not isinstance(raw, dict):
        return []
    if isinstance(raw.get("data"), dict) and isinstance(raw.get("type"), str):
        raw = raw["data"]  # LangChain's message dict
    if _kind(raw) in _READERS:
        return [raw]
    if isinstance(raw.get("tool_call_id"), str):
        return [{**raw, "type": "tool_result"}]
    return [*_listed(raw.get("content")), *_listed(raw.get("parts")), *_tool_calls(raw.get("tool_calls"))]


def _listed(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [content]
    return content if isinstance(content, list) else []


def _tool_calls(calls: Any) -> Iterator[JSON]:
    for call in _listed(calls):
        if isinstance(call, dict):
            yield {**call, "type": "tool_call"}


# --- the formats of a part


def _read_parts(parts: Any) -> Iterator[Entry]:
    if not isinstance(parts, list):
        return
    for part in parts:
        if isinstance(part, str):
            yield from _text(part)
        elif isinstance(part, dict):
            yield from _READERS.get(_kind(part), _read_other)(part)


def _kind(part: JSON) -> str:
    kind = part.get("type")
    if not isinstance(kind, str):
        return "text" if isinstance(part.get("text"), str) else ""
    if kind.startswith("tool-") and isinstance(part.get("toolCallId"), str) and "state" in part:
        return "dynamic-tool"
    return kind


def _text(text: Any) -> Iterator[Entry]:
    if isinstance(text, str) and text:
        yield Text(text)


def _read_text(part: JSON) -> Iterator[Entry]:
    yield from _text(part.get("text"))


def _read_refusal(part: JSON) -> Iterator[Entry]:
    yield from _text(part.get("refusal"))


def _read_thinking(part: JSON) -> Iterator[Entry]:
    summary = part.get("summary")
    steps = [step.get("text") for step in summary if isinstance(step, dict)] if isinstance(summary, list) else []
    text = _first_text(part, "thinking", "text") or "\n\n".join(step for step in steps if isinstance(step, str))
    yield Thinking(text, part)


def _read_component(part: JSON) -> Iterator[Entry]:
    yield Component(part)


def _read_step(part: JSON) -> Iterator[Entry]:
    yield Step()


def _read_other(part: JSON) -> Iterator[Entry]:
    yield Other(part)


def _read_call(part: JSON) -> Iterator[Entry]:
    inner = next((part[key] for key in ("function", "custom") if isinstance(part.get(key), dict)), part)
    call_id = _first_text(part, "call_id", "toolCallId", "id")
    name = _first_text(inner, "name", "toolName")
    if call_id and name:
        yield Call(call_id, name, _first(inner, "arguments", "args", "input"), approval=_approval(part))


def _approval(part: JSON) -> str | None:
    decided = part.get("approval")
    if isinstance(decided, str) and decided in ("approved", "denied"):
        return decided
    return "requested" if part.get("requires_approval") is True else None


def _read_result(part: JSON) -> Iterator[Entry]:
    call_id = _first_text(part, "tool_call_id", "tool_use_id", "call_id", "toolCallId")
    if call_id:
        failed = bool(part.get("is_error") or part.get("isError") or part.get("status") == "error")
        yield Result(call_id, _unwrapped(part), failed)


def _unwrapped(part: JSON) -> Any:
    output = _first(part, "content", "output", "result")
    if part.get("type") == "tool-result" and isinstance(output, dict) and "value" in output:
        return output["value"]  # the AI SDK's {"type": "json", "value": ...}
    return output


def _read_ui_tool(part: JSON) -> Iterator[Entry]:
    """The AI SDK keeps a call and its outcome in one part."""
    call_id, kind = _first_text(part, "toolCallId"), str(part.get("type"))
    name = _first_text(part, "toolName") or kind.removeprefix("tool-")
    if call_id and name:
        yield Call(call_id, name, part.get("input"), _ui_outcome(part, call_id), part)


def _ui_outcome(part: JSON, call_id: str) -> Result | None:
    state = part.get("state")
    if state == "output-available":
        return Result(call_id, part.get("output"))
    if state == "output-error":
        return Result(call_id, _first_text(part, "errorText") or "The tool failed.", failed=True)
    if state == "output-denied":
        return Result(call_id, DENIED, failed=True)
    return None


def _read_media(part: JSON) -> Iterator[Entry]:
    inner = {**part}
    for key in ("file", "image_url", "input_audio", "source"):
        if isinstance(part.get(key), dict):
            inner.update(part[key])
    media_type = _first_text(inner, "media_type", "mediaType", "mime_type", "mimeType")
    if not media_type and isinstance(inner.get("format"), str):
        media_type = f"audio/{inner['format']}"
    url = _media_url(inner, media_type)
    media_type = _data_type(url) or media_type
    yield Media(_media_kind(part, media_type), url, media_type, _first_text(inner, "filename", "name", "title"), part)


def _media_url(inner: JSON, media_type: str) -> str:
    url = _first_text(inner, "url", "image_url", "file_url", "file_data", "image")
    if url.startswith(("https://", "http://")) or _data_type(url):
        return url
    data = _first_text(inner, "data", "base64")
    if inner.get("type") == "text" or not data or not media_type:
        return ""
    return f"data:{media_type};base64,{data}"


def _data_type(url: str) -> str:
    """The media type of a base64 `data:` URL, empty for anything else."""
    head, comma, data = url[:200].partition(";base64,")
    return head[5:].partition(";")[0] if comma and data and head.startswith("data:") and "/" in head else ""


def _media_kind(part: JSON, media_type: str) -> Literal["image", "audio", "file"]:
    kind = str(part.get("type"))
    if "image" in kind or media_type.startswith("image/"):
        return "image"
    return "audio" if "audio" in kind or media_type.startswith("audio/") else "file"


_READERS: dict[str, Callable[[JSON], Iterator[Entry]]] = {
    **dict.fromkeys(("text", "input_text", "output_text"), _read_text),
    **dict.fromkeys(("thinking", "redacted_thinking", "reasoning"), _read_thinking),
    **dict.fromkeys(("image_url", "input_image", "image", "file", "input_file", "document"), _read_media),
    **dict.fromkeys(("input_audio", "audio"), _read_media),
    **dict.fromkeys(("tool_call", "tool-call", "tool_use", "function_call", "custom_tool_call"), _read_call),
    **dict.fromkeys(("tool_result", "tool-result"), _read_result),
    **dict.fromkeys(("function_call_output", "custom_tool_call_output"), _read_result),
    "component": _read_component,
    "step-start": _read_step,
    "dynamic-tool": _read_ui_tool,
    "refusal": _read_refusal,
}


def _first(found: JSON, *keys: str) -> Any:
    return next((found[key] for key in keys if found.get(key) is not None), None)


def _first_text(found: JSON, *keys: str) -> str:
    return next((found[key] for key in keys if isinstance(found.get(key), str) and found[key]), "")


# --- JSON that every provider can parse


def json_text(value: Any) -> str:
    """*value* as JSON; as a JSON string if JSON cannot represent it."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return json.dumps(_as_string(value), ensure_ascii=False)


def json_object(arguments: Any) -> JSON:
    """The arguments of a call as an object; other text as `{"input": text}`."""
    if isinstance(arguments, str):
        arguments = _parsed(arguments) if arguments.strip() else {}
    if isinstance(arguments, dict) and json_text(arguments).startswith("{"):
        return arguments
    return {} if arguments is None else {"input": arguments if isinstance(arguments, str) else json_text(arguments)}


def json_arguments(arguments: Any) -> str:
    """The arguments of a call as the text of an object; text that is one already, unchanged."""
    if isinstance(arguments, str) and isinstance(_parsed(arguments), dict):
        return arguments
    return json_text(json_object(arguments))


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's


def _as_string(value: Any) -> str:
    try:
        return str(value)
    except RecursionError:
        return "..."
