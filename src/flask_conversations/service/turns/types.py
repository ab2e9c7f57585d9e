"""The request that begins a turn, the public JSON of a turn, and the errors of its worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypedDict

from ...errors import ConversationsError
from ...schemas.common import iso
from ...schemas.types import Message, Turn
from ...store.rows import TurnRow
from ...streams import Timeline, parts_of, pauses_of
from ...tables import CANCELLED, FAILED, LIVE_STATES, WAITING
from ...turns import ResponderError

SEND, REGENERATE, EDIT, HOST, RECORD = "send", "regenerate", "edit", "host", "record"
"""How a turn begins: a new question, a second answer to one, an edited one, or a route of the host."""


class LeaseLost(Exception):
    """This worker does not hold the turn any more: its lease has ended, or another worker has ended the turn."""


class Interrupted(ResponderError):
    """The answer was interrupted, neither by the responder nor by the user."""

    code = "interrupted"


@dataclasses.dataclass(frozen=True)
class TurnRequest:
    """A request to begin a turn."""

    conversation_id: str
    kind: str
    message: Mapping[str, Any] | None = None
    """The question, as `save_message` takes it; None if it is already stored."""
    message_id: str | None = None
    """The message that is answered again, or edited."""
    key: str | None = None
    fingerprint: str | None = None
    """The Idempotency-Key of the request, and the fingerprint of its body."""
    protocol: str | None = None
    only_question: bool = False
    """True if there is no responder: the question is only stored."""


@dataclasses.dataclass(frozen=True)
class StartedTurn:
    """A turn that this request or an earlier equal one has begun. `turn` is None for a question without a turn."""

    turn: TurnRow | None
    question: Message | None
    replayed: bool = False


class TurnView(TypedDict):
    """A turn with its stored question and answer."""

    turn: TurnRow
    question: Message | None
    answer: Message | None


def public_state(state: str | None) -> str:
    """The state of a conversation whose newest turn is in *state*."""
    if state in (FAILED, CANCELLED):
        return str(state)
    return str(state) if state in LIVE_STATES and state != WAITING else "idle"


def timeline_of(view: TurnView) -> Timeline:
    """The stored state of a turn, from which its events follow."""
    turn, answer = view["turn"], view["answer"]
    parts = parts_of(answer) if answer is not None else []
    return Timeline(
        state=WAITING if turn.state == WAITING else public_state(turn.state),
        has_started=turn.started_at is not None,
        is_over=turn.state not in LIVE_STATES,
        question=view["question"],
        answer=answer,
        parts=parts,
        pauses=pauses_of(turn.calls, parts) if answer is not None else [],
        error=_problem(turn.error) if turn.error else None,
    )


def _problem(error: Mapping[str, Any]) -> dict[str, Any]:
    """The error of a turn as problem details (RFC 9457)."""
    return {
        "type": "about:blank",
        "title": ResponderError.title,
        "status": ResponderError.status,
        "detail": error.get("detail"),
        "code": error.get("code"),
        "retryable": True,
    }


def dump(turn: TurnRow) -> Turn:
    """The JSON of a turn."""
    return {
        "id": turn.id,
        "conversation_id": turn.conversation_id,
        "kind": turn.kind,
        "protocol": turn.protocol,
        "state": turn.state if turn.state == WAITING else public_state(turn.state),
        "outcome": None if turn.state in LIVE_STATES else turn.state,
        "question_id": turn.question_id,
        "answer_id": turn.answer_id,
        "error": turn.error,
        "created_at": str(iso(turn.created_at)),
        "started_at": iso(turn.started_at),
        "updated_at": str(iso(turn.updated_at)),
        "ended_at": iso(turn.ended_at),
    }


def stored_error(error: ConversationsError) -> dict[str, Any]:
    """The part of an error that the user may see: no text of an exception that host code has raised."""
    return {"code": error.code, "detail": error.detail}
