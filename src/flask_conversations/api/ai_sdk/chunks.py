"""The AI SDK's UI message stream: the events of a turn as chunks for `useChat`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ... import errors
from ...schemas.common import encoded
from ...service.http import Follower
from ...streams.events import COMPLETED, ERROR, StreamEvent
from . import parts

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}

Chunk = dict[str, Any]

_TEXT_KINDS = {"message.delta": "text", "message.reasoning": "reasoning"}
_METADATA = ("seq", "parent_id", "status", "model", "created_at", "usage", "tokens_used")

_UNFINISHED = "The answer was interrupted before the tool had run."


def encode_stream(follower: Follower, turn_id: str, *, continued: bool = False) -> Iterator[str]:
    """The events of a follower as chunks; *continued* if the page adds them to a message that it already shows."""
    chunks = Chunks(follower, continued=continued)
    try:
        for sent in follower:
            if sent is None:
                yield ": still here\n\n"
            else:
                yield from _framed(chunks.of(sent), f"{turn_id}:{sent.position}")
    except errors.ConversationsError as error:
        yield from _framed([{"type": "error", "errorText": error.detail}], None)
    yield "data: [DONE]\n\n"


def empty_stream() -> Iterator[str]:
    """The chunks of a question without a turn."""
    yield from _framed([{"type": "start"}, {"type": "finish"}], None)
    yield "data: [DONE]\n\n"


def _framed(chunks: Iterable[Chunk], event_id: str | None) -> Iterator[str]:
    """The frames of one event. Only the last one has its id: a reader without it gets all of them again.

    An event without a chunk in the protocol is a frame without data, which updates the reader's `Last-Event-ID`.
    """
    frames = [f"data: {encoded(chunk).decode()}\n\n" for chunk in chunks]
    if event_id is not None:
        last = frames.pop() if frames else "\n"
        frames.append(f"id: {event_id}\n{last}")
    return iter(frames)


class Chunks:
    """The chunks of one stream. It begins with `start` at any position, and has a start and an end for each text."""

    def __init__(self, follower: Follower, *, continued: bool = False) -> None:
        self._follower, self._continued = follower, continued
        self._replayed, self._position = follower.replayed, follower.position
        self._is_caught_up = follower.is_caught_up
        self._started = False
        self._open: tuple[str, str] | None = None
        """The kind and the id of the open text."""
        self._calls = parts.Calls()
        answer = follower.answer if follower.position >= COMPLETED else None
        self._status: str | None = answer["status"] if answer is not None else None
        self._ended = follower.position >= ERROR and follower.has_failed
        self._waits = False

    def of(self, sent: StreamEvent) -> Iterator[Chunk]:
        """The chunks of one event."""
        if sent.event == "message.started":
            yield from self._begin(sent.data["id"], metadata_of(sent.data))
        elif sent.event in _TEXT_KINDS:
            yield from self._begin(sent.data["message_id"])
            yield from self._text(_TEXT_KINDS[sent.event], sent)
        elif sent.event in ("tool.call", "tool.result", "message.component", "message.part"):
            yield from self._begin(sent.data["message_id"])
            yield from self._close()
            part = {name: value for name, value in sent.data.items() if name != "message_id"}
            yield from self._calls.chunks(part, f"{sent.data['message_id']}:{sent.position}")
        elif sent.event == "message.completed":
            yield from self._begin(sent.data["id"])
            yield from self._complete(sent.data)
        elif sent.event == "error":
            self._ended = True
            yield {"type": "error", "errorText": sent.data["detail"] or "The question could not be answered."}
        elif sent.event == "state":
            self._waits = sent.data["state"] == "awaiting_approval"
        elif sent.event == "done":
            yield from self._end()

    def _begin(self, message_id: str | None, metadata: Chunk | None = None) -> Iterator[Chunk]:
        if self._started:
            return
        self._started = True
        start: Chunk = {"type": "start"}
        if message_id is not None:
            start["messageId"] = message_id
        if metadata:
            start["messageMetadata"] = metadata
        yield start
        yield from self._calls.remember([sent.data for sent in self._replayed], seen=self._continued)
        self._calls.all_known = self._is_caught_up

    def _text(self, kind: str, sent: StreamEvent) -> Iterator[Chunk]:
        start = sent.position - len(sent.data["delta"])
        if self._open is None or self._open[0] != kind:
            yield from self._close()
            yield from self._calls.next_step()
            self._open = kind, f"{kind}-{self._start_of(kind, start)}"
            yield {"type": f"{kind}-start", "id": self._open[1]}
        yield {"type": f"{kind}-delta", "id": self._open[1], "delta": sent.data["delta"]}

    def _start_of(self, kind: str, start: int) -> int:
        """The start of the text that contains *start*, so that a resumed text keeps its id."""
        if start != self._position or not self._replayed or _TEXT_KINDS.get(self._replayed[-1].event) != kind:
            return start
        return int(self._replayed[-1].position - len(self._replayed[-1].data["delta"]))

    def _close(self) -> Iterator[Chunk]:
        if self._open is not None:
            kind, name = self._open
            self._open = None
            yield {"type": f"{kind}-end", "id": name}

    def _complete(self, answer: Mapping[str, Any]) -> Iterator[Chunk]:
        yield from self._close()
        self._status = answer["status"]
        if self._status in ("interrupted", "failed"):
            yield from self._calls.unfinished(_UNFINISHED)
        else:
            yield from self._calls.done()
        yield {"type": "message-metadata", "messageMetadata": metadata_of(answer)}

    def _end(self) -> Iterator[Chunk]:
        if self._ended:
            return
        answer = self._follower.answer
        yield from self._begin(answer["id"] if answer is not None else None)
        yield from self._close()
        if self._status == "interrupted":
            yield {"type": "abort", "reason": "cancelled"}
        else:
            yield {"type": "finish", "finishReason": "tool-calls" if self._waits else "stop"}


def metadata_of(message: Mapping[str, Any]) -> Chunk:
    """The members of a message that the AI SDK keeps in the metadata only."""
    own = {name: message[name] for name in _METADATA if message.get(name) is not None}
    return {**own, **(message.get("metadata") or {})}
