"""Service calls for the REST API only: rendered JSON, entity tags, and replayed answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from .. import transaction
from ..history import render
from ..schemas.common import encoded
from ..schemas.types import Message, SaveOutcome, Turn, TurnOutcome
from . import conversations, idempotency, messages, reading, snapshots
from .outcome import Outcome
from .turns import operations, recovery, views
from .turns.following import Follower
from .turns.types import TurnRequest
from .turns.views import UnknownTurn
from .unit_of_work import UnitOfWork, Units

__all__ = ["Follower", "Outcome", "UnknownTurn"]


def answer_once(units: Units, scope: str, key: str, fingerprint: str, effect: Callable[[], Any]) -> Outcome:
    """Call *effect* and store its JSON-ready answer under *key* in one transaction; return the stored answer of a repeated key."""
    return units.write(_answer_once, scope, key, fingerprint, effect)


def _answer_once(work: UnitOfWork, scope: str, key: str, fingerprint: str, effect: Callable[[], Any]) -> Outcome:
    with transaction.grouped(work.session):
        return idempotency.answer_once(work, scope, key, fingerprint, effect)


def create_conversation(
    units: Units,
    title: str | None = None,
    *,
    id: str | None = None,
    messages: Sequence[Mapping[str, Any]] = (),
    temporary: bool = False,
    **fields: Any,
) -> Outcome:
    """Like the service's, with `replayed` if the conversation existed before."""
    return units.write_as("create_conversation", conversations.create, title, id, messages, temporary, fields)


def save_message(units: Units, conversation_id: str, message: Mapping[str, Any]) -> Outcome:
    """Like the service's with one mapping, with `replayed` if the message existed before."""
    return units.write_as("save_message", messages.save, conversation_id, message)


def save_snapshot(
    units: Units,
    snapshot: Mapping[str, Any],
    *,
    base_version: int | None,
    force_overwrite: bool,
    refuse_conflicts: bool,
    roles: Collection[str] | None,
) -> SaveOutcome:
    """Save a client's copy of an existing conversation. New or changed messages must have one of *roles*, if given."""
    return units.write_as(
        "save_conversation",
        snapshots.save,
        snapshot,
        base_version=base_version,
        force_overwrite=force_overwrite,
        refuse_conflicts=refuse_conflicts,
        create=False,
        roles=roles,
    )


def get_messages(units: Units, conversation_id: str, **query: Any) -> bytes:
    """A page of messages as JSON text. Cached messages are returned without decoding and encoding them."""
    page = views.get_page(units, reading.page_as_json, reading.PageQuery(conversation_id, **query))
    return b'{"messages":[' + b",".join(page.messages) + b"]," + encoded(page.rest)[1:]


def get_ui_messages(units: Units, conversation_id: str, **query: Any) -> dict[str, Any]:
    """A page of messages in the format of the AI SDK."""
    page = views.get_page(units, reading.page_as_dicts, reading.PageQuery(conversation_id, **query))
    return {**page.rest, "messages": render(page.messages, format="ui")}


def state_etag(units: Units, conversation_id: str) -> str:
    """The entity tag of the state of a conversation."""
    status = units.read(recovery.poll_status, conversation_id)
    if status.dead:
        recovery.recover(units.own)
        status = units.read(recovery.poll_status, conversation_id)
    return f"{status.version}-{status.rev:x}"


def check_conversation(units: Units, conversation_id: str) -> None:
    """Raise `ConversationNotFound` unless the identity has that conversation."""
    units.read(recovery.poll_status, conversation_id)


def current_turn(units: Units, conversation_id: str) -> Turn | None:
    """The active turn, or else the first waiting one; None if there is none."""
    return units.read(views.current_turn, conversation_id)


def ask(
    units: Units,
    conversation_id: str,
    kind: str,
    *,
    message: Mapping[str, Any] | None = None,
    message_id: str | None = None,
    key: tuple[str, str] | None = None,
    protocol: str | None = None,
    wait: bool = True,
) -> TurnOutcome:
    """Begin a turn of *kind* `send`, `regenerate` or `edit`.

    *key* is the Idempotency-Key of the request with its fingerprint.
    """
    name, fingerprint = key or (None, None)
    request = TurnRequest(conversation_id, kind, message, message_id, name, fingerprint, protocol)
    return operations.ask(units, request, wait=wait)


def cancel(units: Units, conversation_id: str, key: tuple[str, str] | None) -> Outcome:
    """Like the service's; a repeated *key* returns the turn of the first request, with `replayed`."""
    return operations.cancel(units, conversation_id, key)


def turn_to_resume(units: Units, conversation_id: str, turn_id: str, position: int) -> Turn | None:
    """The turn that a reader has followed up to *position*; None if no event follows."""
    return operations.turn_to_resume(units, conversation_id, turn_id, position)


def unanswered_question(units: Units, conversation_id: str, message_id: str) -> Message:
    """A question without a turn. Raises `UnknownTurn` if there is no such question."""
    return units.read(views.unanswered_question, conversation_id, message_id)


def follow(
    units: Units, conversation_id: str, turn_id: str, position: int = 0, *, calls: Collection[str] = ()
) -> Follower:
    """The events of a turn behind *position*, or behind the decision about *calls*."""
    return operations.follow(units, conversation_id, turn_id, position, calls=calls)
