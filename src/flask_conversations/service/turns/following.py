"""Follow a turn: its events from any position, on any worker."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ...errors import StorageUnavailable
from ...streams import END, Pause, Relay, StreamEvent, Timeline, next_position, parts_before, parts_of
from ...tables import WAITING
from ..unit_of_work import Units
from .ports import Execution
from .types import timeline_of
from .views import turn_view


class Follower:
    """One reader of one turn. Between two events it holds no connection, no context and no transaction.

    With *calls*, the ids of tool calls, the events start where the turn goes on after the decision about them.
    """

    def __init__(
        self, units: Units, conversation_id: str, turn_id: str, position: int, calls: Collection[str] = ()
    ) -> None:
        self._units, self._turn_id = units, turn_id
        self._view = turn_view(units, conversation_id, turn_id)
        self._conversation_id = self._view["turn"].conversation_id
        self._registry = units.backend.turns
        self._timing = self._registry.timing
        known = self._view["turn"].calls or ()
        # the answer may have reached its next pause already, with a call of the same id
        pauses = [call["parts"] for call in known if call["id"] in calls and call["decision"]]
        self.position = self._timeline.behind_pause(max(pauses)) if pauses else position
        self._frames_read = 0
        self._last_read_at = self._last_success_at = self._last_sent_at = time.monotonic()

    def __iter__(self) -> Iterator[StreamEvent | None]:
        """Yield the events; None after `keepalive_interval` without one."""
        while True:
            timeline = self._timeline
            for event in timeline.events(self.position):
                self.position, self._last_sent_at = event.position, time.monotonic()
                yield event
            if timeline.last:
                return
            if time.monotonic() - self._last_sent_at >= self._timing.keepalive_interval:
                self._last_sent_at = time.monotonic()
                yield None
            self._wait()

    @property
    def replayed(self) -> list[StreamEvent]:
        """The events of the parts that begin before `position`, each whole."""
        timeline = self._timeline
        if timeline.answer is None:
            return []
        return parts_before(timeline.parts, timeline.pauses, timeline.answer["id"], self.position)

    @property
    def answer(self) -> Mapping[str, Any] | None:
        """The answer as it was last read; None before it is stored."""
        return self._view["answer"]

    @property
    def has_failed(self) -> bool:
        """Whether the turn has ended with an error."""
        return bool(self._view["turn"].error)

    @property
    def is_caught_up(self) -> bool:
        """Whether the answer here reaches `position`: a dead worker may have sent more than it saved."""
        return self.position <= self._timeline.next_position

    @property
    def _timeline(self) -> Timeline:
        """The state of the turn, from memory if this process executes it, else as last read."""
        timeline = timeline_of(self._view)
        execution = self._registry.find(self._turn_id)
        if execution is None or not execution.answer_started or timeline.last:
            return timeline
        return timeline._replace(parts=execution.answer.parts, pauses=execution.pauses)

    def _wait(self) -> None:
        """Wait until there may be new events."""
        execution = self._registry.find(self._turn_id)
        if execution is not None:
            self._wait_for_execution(execution)
        elif not (self._registry.relay is not None and self._read_relay(self._registry.relay)):
            time.sleep(self._timing.database_poll_interval)
            self._refresh()
        if time.monotonic() - self._last_read_at >= self._timing.keepalive_interval:
            self._refresh()

    def _wait_for_execution(self, execution: Execution) -> None:
        time.sleep(self._timing.delta_interval)
        started, waiting = execution.answer_started, execution.turn.state == WAITING
        execution.wait_for_more(self.position, self._timing.keepalive_interval / 3)
        if (
            execution.ended.is_set()
            or (self._view["answer"] is None and execution.answer_started)
            or started != execution.answer_started
            or waiting != (execution.turn.state == WAITING)
            or (not waiting and self._view["turn"].state == WAITING)
        ):
            self._refresh()

    def _read_relay(self, relay: Relay) -> bool:
        """Read the events that another worker has relayed; False if Redis lacks the next one."""
        time.sleep(self._timing.relay_poll_interval)
        if self._view["answer"] is None or time.monotonic() - self._last_read_at >= self._timing.relay_timeout:
            return False
        relayed = relay.read(self._conversation_id, self._turn_id, self._frames_read)
        if not relayed:
            return relayed is not None
        self._frames_read += len(relayed)
        if any(event.event == END for event in relayed):
            self._refresh()
            return True
        parts = _with_events(parts_of(self._view["answer"]), timeline_of(self._view).pauses, relayed)
        if parts is not None:
            self._view = {**self._view, "answer": {**self._view["answer"], "parts": parts}}
        return parts is not None

    def _refresh(self) -> None:
        """Read the turn from the database. Raises `NotFound` if this reader may not see the conversation any more.

        A database outage shorter than `reader_timeout` does not end the stream.
        """
        self._last_read_at = time.monotonic()
        try:
            self._view = turn_view(self._units, self._conversation_id, self._turn_id)
        except StorageUnavailable:
            if time.monotonic() - self._last_success_at > self._timing.reader_timeout:
                raise
            time.sleep(self._timing.database_poll_interval)
        else:
            self._last_success_at = time.monotonic()


def _with_events(
    parts: Sequence[Mapping[str, Any]], pauses: Sequence[Pause], relayed: list[StreamEvent]
) -> list[dict[str, Any]] | None:
    """The *parts* of an answer extended by *relayed* events; None if an event between them is missing."""
    extended = [dict(part) for part in parts]
    for event in relayed:
        part = _part_of_event(event)
        size = len(part["text"]) if "text" in part else 1
        end = next_position(extended, pauses)
        if event.position <= end:
            continue  # relayed twice, or already in the database
        if event.position - size > end:
            return None
        if "text" in part:
            part["text"] = part["text"][end - (event.position - size) :]
        if "text" in part and extended and extended[-1]["type"] == part["type"]:
            extended[-1]["text"] += part["text"]
        else:
            extended.append(part)
    return extended


def _part_of_event(event: StreamEvent) -> dict[str, Any]:
    if event.event in ("message.delta", "message.reasoning"):
        return {"type": "text" if event.event == "message.delta" else "reasoning", "text": event.data["delta"]}
    return {name: value for name, value in event.data.items() if name != "message_id"}
