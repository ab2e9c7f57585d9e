"""What is asked of a turn, what is told of it, and the names of its states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...errors import ConversationsError
from ...models import CANCELLED, FAILED, LIVE_STATES, WAITING
from ...schemas.common import iso
from ...streams import Timeline, parts_of, pauses_of
from ...turns import ResponderError

SEND, REGENERATE, EDIT, HOST, RECORD = "send", "regenerate", "edit", "host", "record"
"""How a turn begins: with a new question, an old one again, one put differently, or in a route of the host."""


class Lost(Exception):
    """This worker is no longer the one that answers: its lease has ended, or the turn was ended by somebody else."""


class Interrupted(ResponderError):
    """The answer was broken off by something that is neither the responder's doing nor the user's."""

    code = "interrupted"


@dataclasses.dataclass(frozen=True)
class Asked:
    """A turn that somebody wants."""

    conversation_id: str
    kind: str
    message: Mapping[str, Any] | None = None
    """The question, as `save_message` takes it; None if it is there already."""
    message_id: str | None = None
    """The message that is answered again, or put differently."""
    key: str | None = None
    fingerprint: str | None = None
    """The Idempotency-Key of the request, and what tells it from another with that key."""
    protocol: str | None = None
    only_question: bool = False
    """Whether the question is to be stored and nobody answers it."""


@dataclasses.dataclass(frozen=True)
class Begun:
    """A turn that exists now, or has existed before."""

    turn: Any
    question: Mapping[str, Any] | None
    replayed: bool = False

    @property
    def is_waiting(self) -> bool:
        return self.turn is not None and self.turn.state == WAITING


def told(state: str | None) -> str:
    """The state of a conversation whose newest turn is in *state*."""
    if state in (FAILED, CANCELLED):
        return str(state)
    return str(state) if state in LIVE_STATES and state != WAITING else "idle"


def timeline_of(view: Mapping[str, Any]) -> Timeline:
    """What the events of a turn follow from, as far as it is stored."""
    turn, answer = view["turn"], view["answer"]
    return Timeline(
        state=WAITING if turn.state == WAITING else told(turn.state),
        has_started=turn.started_at is not None,
        is_over=turn.state not in LIVE_STATES,
        question=view["question"],
        answer=answer,
        parts=parts_of(answer) if answer is not None else [],
        pauses=pauses_of(turn.calls) if answer is not None else [],
        error=_problem(turn.error) if turn.error else None,
    )


def _problem(error: Mapping[str, Any]) -> dict[str, Any]:
    """The error of a turn as any other error of ours is told."""
    return {
        "type": "about:blank",
        "title": ResponderError.title,
        "status": ResponderError.status,
        "detail": error.get("detail"),
        "code": error.get("code"),
        "retryable": True,
    }


def dump(turn: Any) -> dict[str, Any]:
    """The JSON of a turn."""
    return {
        "id": turn.id,
        "conversation_id": turn.conversation_id,
        "kind": turn.kind,
        "protocol": turn.protocol,
        "state": turn.state if turn.state == WAITING else told(turn.state),
        "outcome": None if turn.state in LIVE_STATES else turn.state,
        "question_id": turn.question_id,
        "answer_id": turn.answer_id,
        "error": turn.error,
        "created_at": iso(turn.created_at),
        "started_at": iso(turn.started_at),
        "updated_at": iso(turn.updated_at),
        "ended_at": iso(turn.ended_at),
    }


def problem(error: ConversationsError) -> dict[str, Any]:
    """What is kept of a failure: for the person who asked, and without anything that others said."""
    return {"code": error.code, "detail": error.detail}
