"""A window of stored messages as a history that a provider accepts, even if messages were cut or interrupted.

How tools are stored. An assistant message keeps its calls in `parts`; the results are among its parts too, in the order of
their arrival, or in tool messages:

    {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Paris"}}
    {"type": "tool_result", "tool_call_id": "call_1", "content": "21 degrees"}

`arguments` may be JSON text, `content` text, parts or any JSON; without `content` the message's own content is the
answer. Equally understood, in `content`, in `parts` and as the framework's own item in `raw`: OpenAI chat messages
(`tool_calls`, `tool_call_id`), Responses items (`function_call`, `function_call_output`), Anthropic blocks (`tool_use`,
`tool_result`), LangChain message dicts and the AI SDK's tool parts. In a user message, which a client may have written,
a tool result only counts in `raw`.

For every format but `ui`: a call has its result directly behind it, or both are left out; ids are unique and of a spelling
that all providers take; empty messages are left out; a summary replaces the messages that it sums up. The input is never
changed, but the result may share parts with it. See docs/reference/history-formats.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..errors import ValidationFailed
from . import anthropic, langchain, openai, responses, ui
from .common import leading, result_entries
from .parsing import (
    DENIED,
    JSON,
    Call,
    Component,
    Entry,
    Media,
    Other,
    ParsedMessage,
    Result,
    Step,
    Text,
    json_arguments,
    json_text,
    read,
)
from .summaries import SUMMARY, summarized, until_of
from .tokens import estimate_tokens

FORMATS: dict[str, Callable[[list[ParsedMessage]], list[JSON]]] = {
    "openai": openai.render,
    "responses": responses.render,
    "anthropic": anthropic.render,
    "langchain": langchain.render,
    "ui": ui.render,
}

NAMED_FORMATS = ("langchain", "ui")
"""Formats whose messages carry the ids of the stored ones."""

LEADING = 20
"""Messages at the beginning of a conversation that may be its system prompt."""

MEDIA_TOKENS = 1000
"""The assumed tokens of a picture or a file: no provider counts its bytes as text."""

MAX_CALLS = 128
"""Parallel calls that OpenAI accepts in one message."""

_PLAIN_ROLES = frozenset({"user", "assistant", "system", "developer"})

_WIRE_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")


def render(
    messages: Sequence[Any],
    *,
    format: str = "openai",
    max_tokens: int | None = None,
    count_tokens: Callable[[str], int] | None = None,
) -> list[JSON]:
    """The messages, oldest first, as *format* wants them; of more than *max_tokens*, the newest that fit."""
    if not isinstance(format, str) or format not in FORMATS:
        raise ValidationFailed({"format": [f"Must be one of: {', '.join(FORMATS)}."]})
    if max_tokens is None and format == "openai" and (plain := _plain(messages)) is not None:
        return plain
    history = _parsed(messages) if format == "ui" else _for_a_model(_parsed(summarized(messages)))
    if max_tokens is not None:
        history = _fitting(history, _checked(max_tokens), count_tokens or estimate_tokens)
    return FORMATS[format](history)


def system_prompt(messages: Sequence[Any]) -> str:
    """The text of the leading system and developer messages: the value of `system=` for Anthropic."""
    unsummarized = [message for message in messages if until_of(message) is None]
    return "\n\n".join(parsed.text for parsed in leading(_parsed(unsummarized)) if parsed.text)


def _plain(messages: Sequence[Any]) -> list[JSON] | None:
    """The history if it is text only, or None. The hot path: one loop without a call of ours."""
    plain = []
    try:
        for message in messages:
            content, role = message["content"], message["role"]
            if (
                content.__class__ is not str
                or not content
                or role not in _PLAIN_ROLES
                or message.get("parts")
                or message.get("raw")
                or message.get("type") == SUMMARY
            ):
                return None
            plain.append({"role": role, "content": content})
    except (AttributeError, KeyError, TypeError):
        return None  # not a message: the slow path handles it
    return plain


def _checked(max_tokens: Any) -> int:
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 0:
        raise ValidationFailed({"max_tokens": ["Must be a whole number, not below 0."]})
    return max_tokens


# --- tool calls and their answers


def _parsed(messages: Iterable[Any]) -> list[ParsedMessage]:
    history = [parsed for parsed in map(_read, messages) if parsed is not None]
    _answer_calls(history)
    return [parsed for parsed in history if parsed.entries]


def _read(message: Any) -> ParsedMessage | None:
    parsed = read(message)
    if parsed is not None and until_of(message) is not None:
        parsed.summary = True
    return parsed


def _answer_calls(history: list[ParsedMessage]) -> None:
    """Give each result to the call before it that waits for it, even with other messages between; the first result counts."""
    waiting: dict[str, Call] = {}
    for parsed in history:
        waiting.update((call.id, call) for call in parsed.calls if call.result is None)
        for result in parsed.results:
            if call := waiting.pop(result.call_id, None):
                call.result = result
    for parsed in history:
        for call in parsed.calls:
            if call.approval == "denied" and call.result is None:
                call.result = Result(call.id, DENIED, failed=True)


def _for_a_model(history: list[ParsedMessage]) -> list[ParsedMessage]:
    """Messages that any provider takes: no call without its result, no components, one message for each step."""
    _settle_calls(history)
    return [step for parsed in history for step in _steps(parsed)]


def _settle_calls(history: list[ParsedMessage]) -> None:
    """Leave out calls without an answer; spell the ids and names of the others so that every provider takes them."""
    uses: Counter[str] = Counter()
    taken: set[str] = set()
    for parsed in history:
        if calls := parsed.calls:
            parsed.entries = [entry for entry in parsed.entries if not isinstance(entry, Call) or entry.result]
            for call in calls:
                if call.result:
                    call.id = _wire_id(call.id, uses, taken)
                    call.name = re.sub(r"[^A-Za-z0-9_-]", "_", call.name)[:64]


def _steps(parsed: ParsedMessage) -> Iterator[ParsedMessage]:
    """The message, or several if the model went on after the results of its tools."""
    steps: list[list[Entry]] = [[]]
    calls = 0
    for entry in parsed.entries:
        if isinstance(entry, Component):
            continue
        if (isinstance(entry, Step) and calls) or (isinstance(entry, Call) and calls == MAX_CALLS):
            steps.append([])
            calls = 0
        if not isinstance(entry, Step):
            steps[-1].append(entry)
            calls += isinstance(entry, Call)
    for number, entries in enumerate(filter(None, steps), 1):
        yield dataclasses.replace(parsed, entries=entries, results=[], step=number)


def _wire_id(call_id: str, uses: Counter[str], taken: set[str]) -> str:
    """The id itself if it is short, plain and new, else one made of it.

    OpenAI refuses more than 40 characters, Anthropic any other alphabet and an id that comes twice.
    """
    wire_id = call_id
    while wire_id in taken or not _WIRE_ID.fullmatch(wire_id):
        uses[call_id] += 1
        digest = hashlib.sha256(f"{call_id}\0{uses[call_id]}".encode(errors="surrogatepass"))
        wire_id = f"call_{digest.hexdigest()[:32]}"
    taken.add(wire_id)
    return wire_id


# --- the token budget


def _fitting(history: list[ParsedMessage], max_tokens: int, count: Callable[[str], int]) -> list[ParsedMessage]:
    """The leading system texts, then the newest history that fit, a call and its answer always together.

    A question without a final answer always stays: without it the rest has no meaning.
    """
    lead = leading(history)
    body = history[len(lead) :]
    left = max_tokens - sum(_cost(parsed, count) for parsed in lead)
    question = _last_question(body)
    if question is not None and _is_open(body):
        newest = _newest(body[question + 1 :], left - _cost(body[question], count), count)
        if len(newest) < len(body) - question - 1:
            return [*lead, body[question], *newest]
    newest = _newest(body, left, count)
    if not newest and question is not None and (_is_open(body) or _cost(body[question], count) <= left):
        newest = [body[question]]
    return [*lead, *newest]


def _last_question(body: list[ParsedMessage]) -> int | None:
    return next((index for index in range(len(body) - 1, -1, -1) if body[index].role == "user"), None)


def _is_open(body: list[ParsedMessage]) -> bool:
    """Whether the newest question has no final answer yet: nothing, or only tool calls, came after it."""
    return body[-1].role != "assistant" or bool(body[-1].calls)


def _newest(history: list[ParsedMessage], left: int, count: Callable[[str], int]) -> list[ParsedMessage]:
    start = len(history)
    while start and (left := left - _cost(history[start - 1], count)) >= 0:
        start -= 1
    return history[start:]


def _cost(parsed: ParsedMessage, count: Callable[[str], int]) -> int:
    return sum(count(text) if isinstance(text, str) else text for text in _texts(parsed.entries))


def _texts(entries: Iterable[Entry]) -> Iterator[str | int]:
    """The texts of a message that are counted, and a flat number of tokens for each file."""
    for entry in entries:
        if isinstance(entry, Text):
            yield entry.text
        elif isinstance(entry, Media):
            yield MEDIA_TOKENS
        elif isinstance(entry, Other):
            yield json_text(entry.source)
        elif isinstance(entry, Call):
            yield entry.name
            yield json_arguments(entry.arguments)
            yield from _texts(result_entries(entry.result.content) if entry.result else ())
