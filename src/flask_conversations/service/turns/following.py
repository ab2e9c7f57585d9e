"""Following a turn: its events from any position, on any worker."""

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
    """One reader of one turn. Between two events it holds nothing: no connection, no context, no transaction.

    With *calls*, the ids of tool calls, the reader comes in where the turn goes on once they are decided.
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
        # the answer may have come to its next wait already, with a call of the same id
        pauses = [call["parts"] for call in known if call["id"] in calls and call["decision"]]
        self.position = self._timeline.behind_pause(max(pauses)) if pauses else position
        self._frames_read = 0
        self._looked_at = self._seen_at = self._told_at = time.monotonic()

    def __iter__(self) -> Iterator[StreamEvent | None]:
        """The events; None where nothing has happened for a while."""
        while True:
            timeline = self._timeline
            for event in timeline.events(self.position):
                self.position, self._told_at = event.position, time.monotonic()
                yield event
            if timeline.last:
                return
            if time.monotonic() - self._told_at >= self._timing.heartbeat:
                self._told_at = time.monotonic()
                yield None
            self._wait()

    @property
    def replayed(self) -> list[StreamEvent]:
        """The parts that began before this reader came in, each whole."""
        timeline = self._timeline
        if timeline.answer is None:
            return []
        return parts_before(timeline.parts, timeline.pauses, timeline.answer["id"], self.position)

    @property
    def answer(self) -> Mapping[str, Any] | None:
        """The answer as it was read, once there is one."""
        return self._view["answer"]

    @property
    def has_failed(self) -> bool:
        """Whether the turn has ended with an error."""
        return bool(self._view["turn"].error)

    @property
    def knows_all(self) -> bool:
        """Whether all that this reader has been told is known here: a worker that is gone may have told more than it saved."""
        return self.position <= self._timeline.next_position

    @property
    def _timeline(self) -> Timeline:
        """The turn as far as it is known here."""
        timeline = timeline_of(self._view)
        execution = self._registry.find(self._turn_id)
        if execution is None or not execution.begun_answer or timeline.last:
            return timeline
        return timeline._replace(parts=execution.answer.parts, pauses=execution.pauses)

    def _wait(self) -> None:
        """Until there may be more to tell."""
        execution = self._registry.find(self._turn_id)
        if execution is not None:
            self._wait_for(execution)
        elif not (self._registry.relay is not None and self._read_relay(self._registry.relay)):
            time.sleep(self._timing.listen_database)
            self._look()
        if time.monotonic() - self._looked_at >= self._timing.heartbeat:
            self._look()

    def _wait_for(self, execution: Execution) -> None:
        time.sleep(self._timing.smooth)
        begun, waiting = execution.begun_answer, execution.turn.state == WAITING
        execution.wait_for_more(self.position, self._timing.heartbeat / 3)
        if (
            execution.ended.is_set()
            or (self._view["answer"] is None and execution.begun_answer)
            or begun != execution.begun_answer
            or waiting != (execution.turn.state == WAITING)
            or (not waiting and self._view["turn"].state == WAITING)
        ):
            self._look()

    def _read_relay(self, relay: Relay) -> bool:
        """Read from Redis what another worker has relayed; False if it has nothing, or not what comes next."""
        time.sleep(self._timing.listen_relay)
        if self._view["answer"] is None or time.monotonic() - self._looked_at >= self._timing.trust:
            return False
        relayed = relay.read(self._conversation_id, self._turn_id, self._frames_read)
        if not relayed:
            return relayed is not None
        self._frames_read += len(relayed)
        if any(event.event == END for event in relayed):
            self._look()
            return True
        parts = _grown(parts_of(self._view["answer"]), timeline_of(self._view).pauses, relayed)
        if parts is not None:
            self._view = {**self._view, "answer": {**self._view["answer"], "parts": parts}}
        return parts is not None

    def _look(self) -> None:
        """Read from the database; raises `NotFound` if the conversation is no longer there for this reader.

        One that is out for a while is no reason to end a stream, but to look again.
        """
        self._looked_at = time.monotonic()
        try:
            self._view = turn_view(self._units, self._conversation_id, self._turn_id)
        except StorageUnavailable:
            if time.monotonic() - self._seen_at > self._timing.reader_patience:
                raise
            time.sleep(self._timing.listen_database)
        else:
            self._seen_at = time.monotonic()


def _grown(
    parts: Sequence[Mapping[str, Any]], pauses: Sequence[Pause], relayed: list[StreamEvent]
) -> list[dict[str, Any]] | None:
    """The parts of an answer with what was told since; None if something is missing in between."""
    grown = [dict(part) for part in parts]
    for event in relayed:
        part = _part_of(event)
        size = len(part["text"]) if "text" in part else 1
        end = next_position(grown, pauses)
        if event.position <= end:
            continue  # told twice, or in the database by now
        if event.position - size > end:
            return None
        if "text" in part:
            part["text"] = part["text"][end - (event.position - size) :]
        if "text" in part and grown and grown[-1]["type"] == part["type"]:
            grown[-1]["text"] += part["text"]
        else:
            grown.append(part)
    return grown


def _part_of(event: StreamEvent) -> dict[str, Any]:
    if event.event in ("message.delta", "message.reasoning"):
        return {"type": "text" if event.event == "message.delta" else "reasoning", "text": event.data["delta"]}
    return {name: value for name, value in event.data.items() if name != "message_id"}
