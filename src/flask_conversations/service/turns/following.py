"""Telling what happens in a turn, from any position, on any worker, whoever answers it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...errors import StorageUnavailable
from ...models import LIVE_STATES, WAITING
from ...streams import END, QUESTION, STARTED, Sent, end_of, said_after
from ...streams.units import FIRST, parts_of
from ...turns import ResponderError as _Failed
from .shapes import told, told_all

if TYPE_CHECKING:
    from .running import Work
    from .verbs import TurnVerbs


class Follower:
    """One reader of one turn. Between two events it holds nothing: no connection, no context, no transaction."""

    def __init__(self, service: TurnVerbs, conversation_id: str, turn_id: str, position: int) -> None:
        self._service, self._run_id, self._position = service, turn_id, position
        self._view = service.turn_view(conversation_id, turn_id)
        self._conversation_id = self._view["turn"].conversation_id
        self._runner = service.backend.runner
        self._timing = self._runner.timing
        self._state: str | None = None
        self._relayed = 0
        self._looked_at = self._seen_at = self._told_at = time.monotonic()

    def __iter__(self) -> Iterator[Sent | None]:
        """The events; None where nothing has happened for a while."""
        while True:
            for sent in self._known():
                self._position, self._told_at = max(self._position, sent.position), time.monotonic()
                yield sent
            if self._is_over:
                yield from self._end()
                return
            if time.monotonic() - self._told_at >= self._timing.heartbeat:
                self._told_at = time.monotonic()
                yield None
            self._wait()

    @property
    def heard(self) -> list[Sent]:
        """What was told before this reader came in, as far as it is known: each part that begins there, whole."""
        answer = self._view["answer"]
        if answer is None or self._position <= FIRST:
            return []
        work = self._runner.find(self._run_id)
        live = work is not None and work.begun_answer
        said = work.said_after(FIRST, 0) if live else list(said_after(parts_of(answer), answer["id"], FIRST))
        starts = [FIRST, *(sent.position for sent in said)]
        return [sent for sent, start in zip(said, starts, strict=False) if start < self._position]

    @property
    def _run(self) -> Any:
        return self._view["turn"]

    @property
    def _is_over(self) -> bool:
        return self._run.state not in LIVE_STATES or told(self._run.state) == "awaiting_approval"

    def _known(self) -> Iterator[Sent]:
        """What there is to tell by now."""
        question, answer = self._view["question"], self._view["answer"]
        state = WAITING if self._run.state == WAITING else told(self._run.state)
        if question is not None and self._position <= QUESTION:
            yield Sent(QUESTION + 1, "message.created", question)
        if state != self._state and not self._is_over:
            self._state = state
            yield Sent(self._position, "state", {"state": state})
        if answer is None:
            return
        if self._position <= STARTED:
            yield Sent(FIRST, "message.started", {**answer, "status": "streaming", "content": "", "parts": None})
        work = self._runner.find(self._run_id)
        if work is not None and work.begun_answer and not self._is_over:
            yield from work.said_after(self._position, 0)
        else:
            yield from said_after(parts_of(answer), answer["id"], self._position)

    def _end(self) -> Iterator[Sent]:
        """The answer as it is kept. A reader who has seen more than a dead worker could save learns what there is."""
        answer, state = self._view["answer"], told(self._run.state)
        if self._run.state in LIVE_STATES:
            yield Sent(self._position, "state", {"state": state})
        elif answer is not None:
            end = told_all(self._run, answer)
            if self._position != end:
                self._position = end
                yield Sent(end, "message.completed", answer)
        if self._run.error:
            yield Sent(self._position, "error", _problem(self._run.error))
        if self._run.state not in LIVE_STATES:
            yield Sent(self._position, "state", {"state": state})
        yield Sent(self._position, "done", {})

    def _wait(self) -> None:
        """Until there may be more to tell."""
        work = self._runner.find(self._run_id)
        if work is not None:
            self._wait_for(work)
        elif not (self._runner.relay is not None and self._listen_to_relay()):
            time.sleep(self._timing.listen_database)
            self._look()
        if time.monotonic() - self._looked_at >= self._timing.heartbeat:
            self._look()

    def _wait_for(self, work: Work) -> None:
        time.sleep(self._timing.smooth)
        begun, waiting = work.begun_answer, work.turn.state == WAITING
        work.said_after(self._position, self._timing.heartbeat / 3)
        if (
            work.ended.is_set()
            or (self._view["answer"] is None and work.begun_answer)
            or begun != work.begun_answer
            or waiting != (work.turn.state == WAITING)
            or (not waiting and self._run.state == WAITING)
        ):
            self._look()

    def _listen_to_relay(self) -> bool:
        """Ask Redis what another worker has told; False if it knows nothing, or not what comes next."""
        time.sleep(self._timing.listen_relay)
        if self._view["answer"] is None or time.monotonic() - self._looked_at >= self._timing.trust:
            return False
        told_since = self._runner.relay.told(self._conversation_id, self._run_id, self._relayed)
        if not told_since:
            return told_since is not None
        self._relayed += len(told_since)
        if any(sent.event == END for sent in told_since):
            self._look()
            return True
        parts = self._grown(told_since)
        if parts is not None:
            self._view = {**self._view, "answer": {**self._view["answer"], "parts": parts}}
        return parts is not None

    def _grown(self, told_since: list[Sent]) -> list[dict[str, Any]] | None:
        """The parts of the answer with what was told since; None if something is missing in between."""
        parts = [dict(part) for part in parts_of(self._view["answer"])]
        for sent in told_since:
            part = _part_of(sent)
            size = len(part["text"]) if "text" in part else 1
            end = end_of(parts)
            if sent.position <= end:
                continue  # told twice, or in the database by now
            if sent.position - size > end:
                return None
            if "text" in part:
                part["text"] = part["text"][end - (sent.position - size) :]
            if "text" in part and parts and parts[-1]["type"] == part["type"]:
                parts[-1]["text"] += part["text"]
            else:
                parts.append(part)
        return parts

    def _look(self) -> None:
        """Read from the database; raises `NotFound` if the conversation is no longer there for this reader.

        One that is out for a while is no reason to end a stream, but to look again.
        """
        self._looked_at = time.monotonic()
        try:
            self._view = self._service.turn_view(self._conversation_id, self._run_id)
        except StorageUnavailable:
            if time.monotonic() - self._seen_at > self._timing.reader_patience:
                raise
            time.sleep(self._timing.listen_database)
        else:
            self._seen_at = time.monotonic()


def _part_of(sent: Sent) -> dict[str, Any]:
    if sent.event in ("message.delta", "message.reasoning"):
        return {"type": "text" if sent.event == "message.delta" else "reasoning", "text": sent.data["delta"]}
    return {name: value for name, value in sent.data.items() if name != "message_id"}


def _problem(error: Mapping[str, Any]) -> dict[str, Any]:
    """The error of a turn as any other error of ours is told."""
    return {
        "type": "about:blank",
        "title": _Failed.title,
        "status": _Failed.status,
        "detail": error.get("detail"),
        "code": error.get("code"),
        "retryable": True,
    }
