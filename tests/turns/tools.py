"""What tests of turns share: responders that a test leads by the hand, waiting for conditions, and what always holds."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from flask import Flask

from flask_conversations import signals
from flask_conversations.errors import ConversationNotFound
from flask_conversations.turns import ToolCall, ToolResult

from ..cli.tools import looked
from ..service.tools import everything, sequence

TIMEOUT = 30
"""Seconds until a condition that does not come true fails the test."""

LIVE = ("waiting", "processing", "streaming", "awaiting_approval")


def until(true: Callable[[], Any], what: str = "it is so") -> Any:
    """Wait until *true*, and return what it says."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := true()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not within {TIMEOUT} s: {what}.")
        time.sleep(0.01)
    return found


class Led:
    """A responder under the control of the test: it yields the test's cues."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.began, self.ended = threading.Semaphore(0), threading.Semaphore(0)
        self.cues: list[Any] = []
        self._more = threading.Condition()
        self.turns: list[Any] = []

    def __call__(self, turn: Any) -> Iterator[Any]:
        self.turns.append(turn)
        self.asked.append(turn.message["content"] if turn.message else None)
        self.began.release()
        try:
            while True:
                with self._more:
                    if not self._more.wait_for(lambda: self.cues, TIMEOUT):
                        raise TimeoutError
                    said = self.cues.pop(0)
                if said is END:
                    return
                if isinstance(said, BaseException):
                    raise said
                yield said
        finally:
            self.ended.release()

    def say(self, *pieces: Any) -> None:
        """Let the turn under way say these, one after the other."""
        with self._more:
            self.cues += pieces
            self._more.notify_all()

    def wait(self) -> None:
        """Until it was called, once more."""
        assert self.began.acquire(timeout=TIMEOUT), "the responder was not called"

    def wait_ended(self) -> None:
        assert self.ended.acquire(timeout=TIMEOUT), "the responder did not end"


END: Any = object()
"""Tells a led responder to return."""


def turns_of(app: Flask, conversation_id: str) -> list[Any]:
    """The rows of the turns of a conversation, in order."""
    turn = app.conversations.models.Turn.__table__  # type: ignore[attr-defined]
    with app.app_context(), app.db.engine.connect() as connection:  # type: ignore[attr-defined]
        return list(
            connection.execute(sa.select(turn).where(turn.c.conversation_id == conversation_id).order_by(turn.c.number))
        )


def expire(app: Flask, conversation_id: str) -> None:
    """Let the leases of the turns of a conversation end, as if their workers had sent no heartbeat."""
    expire_turns(app, [row for row in turns_of(app, conversation_id) if row.expires_at is not None])


def expire_turns(app: Flask, rows: Iterable[Any]) -> None:
    """Let the leases of these turns end at once: those that were begun first have ended first."""
    turn = app.conversations.models.Turn.__table__  # type: ignore[attr-defined]
    long_ago = dt.datetime(2001, 1, 1, tzinfo=dt.timezone.utc)
    with app.app_context(), app.db.engine.begin() as connection:  # type: ignore[attr-defined]
        for row in rows:
            ended = long_ago + dt.timedelta(minutes=row.number)
            connection.execute(
                sa.update(turn).where(turn.c.id == row.id, turn.c.expires_at.is_not(None)).values(expires_at=ended)
            )


def abandon(app: Flask, conversation_id: str) -> None:
    """Let this process forget its turns without a word, and their leases end: what kill -9 leaves behind."""
    turns = app.extensions["flask_conversations"].turns
    for row in turns_of(app, conversation_id):
        execution = turns.find(row.id)
        if execution is not None:
            execution.abandon()
    expire(app, conversation_id)


def tree(app: Flask, conversation_id: str) -> list[Any]:
    """All live messages of all branches, by seq: (id, parent_id, role, content, status)."""
    m = app.conversations.models.Message.__table__.c  # type: ignore[attr-defined]
    query = sa.select(m.id, m.parent_id, m.role, m.content, m.status, m.seq)
    with app.app_context(), app.db.engine.connect() as connection:  # type: ignore[attr-defined]
        return list(
            connection.execute(
                query.where(m.conversation_id == conversation_id, m.deleted_at.is_(None)).order_by(m.seq)
            )
        )


def is_sound(app: Flask, *services: Any) -> None:
    """Counters, checksums and sequences of all conversations are as `flask conversations verify` wants them."""
    assert [str(each) for each in looked(app)] == []


def is_idle(app: Flask, service: Any, conversation_id: str) -> None:
    """No turn is under way, nothing is left in any half state, and the conversation is sound."""
    for row in turns_of(app, conversation_id):
        assert row.state not in LIVE, row.state
        assert (row.token, row.expires_at, row.request) == (None, None, None)
        assert row.ended_at is not None
    assert service.get_state(conversation_id)["state"] in ("idle", "failed", "cancelled")
    statuses = {row.status for row in tree(app, conversation_id)}
    assert not statuses & {"streaming", "pending"}, statuses
    seqs = sequence(app, conversation_id)
    assert seqs == list(range(1, len(seqs) + 1))
    is_sound(app)


def said(service: Any, conversation_id: str) -> list[tuple[str, str]]:
    """Role and text of the active branch."""
    return [(one["role"][0], one["content"]) for one in everything(service, conversation_id)]


@contextlib.contextmanager
def noted(app: Flask) -> Iterator[list[Any]]:
    """The state changes that are announced meanwhile: (previous, state, outcome)."""
    seen: list[Any] = []

    def note(sender: Any, turn: Any, previous_state: Any, **_: Any) -> None:
        seen.append((previous_state, turn["state"], turn["outcome"]))

    with signals.turn_state_changed.connected_to(note, sender=app):
        yield seen


def with_tools(turn: Any) -> Iterator[Any]:
    """Asks for a tool, runs it once it may, and says what came of it."""
    if not turn.approved and not turn.denied:
        yield "Let me see. "
        yield ToolCall("c1", "search", {"q": 1}, requires_approval=True)
        return
    for call in turn.approved:
        yield ToolResult(call.id, {"found": 1})
    for call in turn.denied:
        yield ToolResult(call.id, "no", is_error=True)
    yield "Done."


def gone(service: Any, conversation_id: str) -> bool:
    try:
        service.get_conversation(conversation_id)
    except ConversationNotFound:
        return True
    return False
