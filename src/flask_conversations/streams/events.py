"""The events of a turn, each with its own position.

The events follow from the row of a turn and from the parts of its answer, so that memory, Redis and the database give the same
events on every worker, during the turn and after it. A reader may resume at any position, even in the middle of a text.

| position | event |
|---|---|
| 1 | `state`: waiting |
| 2 | `message.created` |
| 3 | `state`: processing |
| 4 | `message.started` |
| 5 | `state`: streaming |
| 6 ... | the parts: each character of text or reasoning takes a position, each other part takes one |
| 1,000,000,001 ... 4 | `message.completed`, `error`, `state`: idle, failed or cancelled, `done` |

A wait for an approval takes four positions between two parts: `state` (awaiting_approval), `done`, `state` (processing) and `state`
(streaming). The positions of the end are fixed, because readers of an interrupted answer may have received more of it than was
saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

WAITING, CREATED, PROCESSING, STARTED, STREAMING = 1, 2, 3, 4, 5
FIRST = STREAMING
"""The position behind which the first part of an answer begins."""
PAUSE = 4
"""Positions that a wait for an approval takes."""
COMPLETED, ERROR, ENDED, DONE = (1_000_000_000 + n for n in (1, 2, 3, 4))

_TEXT_EVENTS = {"text": "message.delta", "reasoning": "message.reasoning"}
_PART_EVENTS = {"tool_call": "tool.call", "tool_result": "tool.result", "component": "message.component"}

Part = Mapping[str, Any]


class StreamEvent(NamedTuple):
    """One event of a stream, and the position that its reader has reached with it."""

    position: int
    event: str
    data: Mapping[str, Any]


class Pause(NamedTuple):
    """A wait for an approval: how many parts of the answer come before it, and whether all its calls are decided."""

    parts: int
    is_decided: bool


def pauses_of(calls: Sequence[Mapping[str, Any]] | None, parts: Sequence[Part]) -> list[Pause]:
    """The pauses of a turn, from the tool calls in its row; if the answer was shortened since, they are behind its last part."""
    is_decided: dict[int, bool] = {}
    for call in calls or ():
        place = min(call["parts"], len(parts))
        is_decided[place] = is_decided.get(place, True) and bool(call["decision"])
    return [Pause(place, is_decided[place]) for place in sorted(is_decided)]


def parts_of(message: Mapping[str, Any]) -> Sequence[Part]:
    """The parts of an answer; a plain text is one part."""
    parts: Sequence[Part] | None = message["parts"]
    if parts:
        return parts
    content = message["content"]
    return [{"type": "text", "text": content}] if content else []


def next_position(parts: Sequence[Part], pauses: Sequence[Pause]) -> int:
    """The position behind which the part after *parts*, and after the pause behind them, begins."""
    return _starts(parts, pauses)[-1]


def last_position(parts: Sequence[Part], pauses: Sequence[Pause]) -> int:
    """The position of the last of *parts*."""
    return _starts(parts, [pause for pause in pauses if pause.parts < len(parts)])[-1]


def part_events(parts: Sequence[Part], pauses: Sequence[Pause], message_id: str, after: int) -> Iterator[StreamEvent]:
    """The events of *parts* behind the position *after*; a text that contains it is sent from there."""
    for start, part in zip(_starts(parts, pauses), parts, strict=False):
        end = start + _length(part)
        if end <= after:
            continue
        if part["type"] in _TEXT_EVENTS:
            text = part["text"][max(after - start, 0) :]
            yield StreamEvent(end, _TEXT_EVENTS[part["type"]], {"message_id": message_id, "delta": text})
        else:
            yield StreamEvent(end, _PART_EVENTS.get(part["type"], "message.part"), {"message_id": message_id, **part})


def parts_before(parts: Sequence[Part], pauses: Sequence[Pause], message_id: str, position: int) -> list[StreamEvent]:
    """The events of the parts that begin before *position*, each whole."""
    starts = _starts(parts, pauses)
    events = part_events(parts, pauses, message_id, FIRST)
    return [event for start, event in zip(starts, events, strict=False) if start < position]


class Timeline(NamedTuple):
    """The state of a turn, from which its events follow."""

    state: str
    """`waiting`, or the state of a conversation whose newest turn this is."""
    has_started: bool
    is_over: bool
    question: Mapping[str, Any] | None
    answer: Mapping[str, Any] | None
    """The answer as it was read; `parts` may be ahead of it."""
    parts: Sequence[Part]
    pauses: Sequence[Pause]
    error: Mapping[str, Any] | None

    def events(self, after: int) -> Iterator[StreamEvent]:
        """The events behind the position *after*."""
        return (event for event in self._events(after) if event.position > after)

    @property
    def last(self) -> int:
        """The position of the last event of the turn, or of the last one before a pending approval; 0 if more may come."""
        if self.is_over:
            return DONE
        return last_position(self.parts, self.pauses) + 2 if self.state == "awaiting_approval" else 0

    def behind_pause(self, parts: int) -> int:
        """The position where the turn goes on after the pause behind so many *parts*; undecided, the position before it."""
        pause = next((pause for pause in self.pauses if pause.parts == parts), None)
        offset = 2 if pause is not None and pause.is_decided else 0
        return last_position(self.parts[:parts], self.pauses) + offset

    @property
    def next_position(self) -> int:
        """The highest position that a reader can have reached before the end."""
        return next_position(self.parts, self.pauses)

    def _events(self, after: int) -> Iterator[StreamEvent]:
        if self.state == "waiting":
            yield _state(WAITING, self.state)
        if self.question is not None:
            yield StreamEvent(CREATED, "message.created", self.question)
        if self.has_started:
            yield _state(PROCESSING, "processing")
        if self.answer is not None:
            begun = {**self.answer, "status": "streaming", "content": "", "parts": None}
            yield StreamEvent(STARTED, "message.started", begun)
            if self.parts:
                yield _state(STREAMING, "streaming")
            events = [*part_events(self.parts, self.pauses, self.answer["id"], after), *self._pauses()]
            yield from sorted(events, key=lambda event: event.position)
        if self.is_over:
            yield from self._end()

    def _pauses(self) -> Iterator[StreamEvent]:
        starts = _starts(self.parts, self.pauses)
        for parts, is_decided in self.pauses:
            reached = starts[parts] - PAUSE
            yield _state(reached + 1, "awaiting_approval")
            if is_decided:
                yield _state(reached + 3, "processing")
                if len(self.parts) > parts:
                    yield _state(reached + 4, "streaming")
            elif not self.is_over:
                yield StreamEvent(reached + 2, "done", {})

    def _end(self) -> Iterator[StreamEvent]:
        if self.answer is not None:
            yield StreamEvent(COMPLETED, "message.completed", self.answer)
        if self.error is not None:
            yield StreamEvent(ERROR, "error", self.error)
        yield _state(ENDED, self.state)
        yield StreamEvent(DONE, "done", {})


def _starts(parts: Sequence[Part], pauses: Sequence[Pause]) -> list[int]:
    """The position behind which each of *parts* begins, and the one for a next part."""
    waits = {pause.parts for pause in pauses}
    reached, starts = FIRST, []
    for place, part in enumerate(parts):
        reached += PAUSE if place in waits else 0
        starts.append(reached)
        reached += _length(part)
    return [*starts, reached + (PAUSE if len(parts) in waits else 0)]


def _length(part: Part) -> int:
    return len(part["text"]) if part["type"] in _TEXT_EVENTS else 1


def _state(position: int, state: str) -> StreamEvent:
    return StreamEvent(position, "state", {"state": state})
