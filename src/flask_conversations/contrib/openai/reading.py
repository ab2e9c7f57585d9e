"""Parses the bytes of a streamed chat completion into texts, thoughts, calls and usage."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ...turns import Reasoning, Usage
from .errors import CUT, NO_COMPLETION, TOO_LONG, WITHHELD, EndpointError, reported

JSON = dict[str, Any]

MAX_LINE_BYTES = 8 * 1024 * 1024
MAX_ANSWER_BYTES = 128 * 1024 * 1024
"""Bytes on the wire, where hundreds of them carry a few letters."""

_DONE = "[DONE]"


@dataclasses.dataclass
class RequestedCall:
    """A tool call that the model requests, assembled from pieces."""

    id: str = ""
    name: str = ""
    arguments: str = ""


def read(chunks: Iterable[JSON]) -> Iterator[str | Reasoning | RequestedCall | Usage]:
    """The contents of *chunks*: texts and thoughts immediately, whole calls and the usage at the end.

    Raises `EndpointError` without an answer.
    """
    reading = _Reading()
    try:
        for chunk in chunks:
            yield from reading.take(chunk)
    except EndpointError:
        if not reading.finish_reason:
            raise  # else the answer is complete, and only the usage is missing
    yield from reading.rest()
    if not reading.finish_reason:
        raise EndpointError(CUT if reading.has_started else NO_COMPLETION, temporary=True, note="ended early")
    if reading.finish_reason == "content_filter":
        raise EndpointError(WITHHELD, note="content_filter")
    yield from reading.calls
    yield reading.usage()


class _Reading:
    """The state of one answer while it is read."""

    def __init__(self) -> None:
        self.calls: list[RequestedCall] = []
        self.finish_reason: str | None = None
        self.has_started = False
        self._at: dict[int, RequestedCall] = {}
        self._first_half = ""
        self._model: str | None = None
        self._usage: JSON = {}

    def take(self, chunk: JSON) -> Iterator[str | Reasoning]:
        if chunk.get("error"):
            raise reported(chunk["error"])
        self.has_started = True
        self._model = self._model or _text(chunk.get("model")) or None
        self._usage = _object(chunk.get("usage")) or self._usage
        for choice in _objects(chunk.get("choices"))[:1]:
            # the whole message if the endpoint does not stream
            delta = _object(choice.get("delta")) or _object(choice.get("message"))
            yield from self._output(delta)
            for number, piece in enumerate(_objects(delta.get("tool_calls"))):
                self._add(piece, number if choice.get("message") else None)
            self.finish_reason = (
                _text(choice.get("finish_reason")) or self.finish_reason or ("stop" if choice.get("message") else None)
            )

    def rest(self) -> Iterator[str]:
        """A replacement for half of a character whose other half never came."""
        if self._first_half:
            yield "\ufffd"

    def usage(self) -> Usage:
        details = {name: value for name, value in self._usage.items() if name.endswith("_details") and value}
        if self.finish_reason not in ("stop", "tool_calls"):
            details["finish_reason"] = self.finish_reason
        prompt, completion, total = (
            _count(self._usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total")
        )
        return Usage(prompt, completion, total, model=self._model, details=details)

    def _output(self, delta: JSON) -> Iterator[str | Reasoning]:
        thought = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
        if thought:
            yield Reasoning(_without_surrogates(thought))
        for piece in (_content_text(delta.get("content")), _text(delta.get("refusal"))):
            text = self._whole(piece)
            if text:
                yield text

    def _whole(self, text: str) -> str:
        """*text* with the half of a character that came before, and without the half at its end: JSON may cut there."""
        text, self._first_half = self._first_half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._first_half = text[:-1], text[-1]
        return _without_surrogates(text)

    def _add(self, piece: JSON, number: int | None) -> None:
        function = _object(piece.get("function"))
        call = self._call_of(_text(piece.get("id")), piece.get("index", number), _text(function.get("name")))
        call.name = call.name or _text(function.get("name"))
        arguments = function.get("arguments")
        call.arguments += json.dumps(arguments) if isinstance(arguments, dict) else _text(arguments)

    def _call_of(self, id: str, index: Any, name: str) -> RequestedCall:
        """The call that a piece belongs to. Some endpoints number calls wrongly, or not at all."""
        known = next((call for call in self.calls if id and call.id == id), None)
        if known:
            return known
        found = self._at.get(index) if isinstance(index, int) else None
        if not id and not name:
            found = found or (self.calls[-1] if self.calls else None)
        if found is None or (id and found.id):
            found = RequestedCall()
            self.calls.append(found)
        if isinstance(index, int):
            self._at[index] = found
        found.id = found.id or id
        return found


def chunks_of(content_type: str, body: Iterable[bytes]) -> Iterator[JSON]:
    """The JSON objects of an answer: one per event, or one for all where the endpoint does not stream."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith("json"):
        yield _parsed(b"".join(_bounded(body, MAX_LINE_BYTES)))
    elif kind in ("text/event-stream", "text/plain", ""):
        yield from _events(_bounded(body, MAX_ANSWER_BYTES))
    else:
        raise EndpointError(NO_COMPLETION, note=f"content type {kind[:64]!r}")


def _events(body: Iterable[bytes]) -> Iterator[JSON]:
    finished = False
    for line in _lines(body):
        field, _, data = line.partition(b":")
        if field != b"data":
            continue  # a comment, another field, or garbage between the events
        if data.strip() == _DONE.encode():
            # the end without a finish_reason
            if not finished:
                yield {"choices": [{"finish_reason": "stop"}]}
            return
        chunk = _parsed(data)
        finished = finished or any(choice.get("finish_reason") for choice in _objects(chunk.get("choices")))
        yield chunk


def _lines(body: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines, however the network has cut them. An unfinished line at the end is left out."""
    rest = bytearray()
    for piece in body:
        rest += piece
        if len(rest) > MAX_LINE_BYTES:
            raise EndpointError(TOO_LONG, note="line too long")
        if b"\n" in piece:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            yield from (line.rstrip(b"\r") for line in whole)


def _bounded(body: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in body:
        size += len(piece)
        if size > limit:
            raise EndpointError(TOO_LONG, note=f"more than {limit} bytes")
        yield piece


def _parsed(data: bytes) -> JSON:
    try:
        found = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise EndpointError(NO_COMPLETION, temporary=True, note="no JSON object")
    return found


def _content_text(content: Any) -> str:
    """The text of a content, which some endpoints send as parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in _objects(content) if part.get("type") == "text")
    return _text(content)


def _without_surrogates(text: str) -> str:
    """*text* without halves of characters."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any) -> JSON:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[JSON]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
