"""Recovery of turns whose worker is dead: the answer so far is kept as interrupted, and the question is stored."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError

from ... import transaction
from ...errors import (
    ClientIdConflict,
    ConversationNotFound,
    MessageNotFound,
    StorageUnavailable,
    ValidationFailed,
    redacted_traceback,
)
from ...ids import new_id, now
from ...schemas import rules
from ...schemas.types import Message
from ...store import db_errors
from ...store import messages as rows
from ...store import turns as turn_rows
from ...store.rows import ConversationRow, PollRow, TurnRow
from ...tables import AWAITING, INTERRUPTED, LIVE_STATES, WAITING
from ..savepoints import savepoint
from ..unit_of_work import UnitOfWork, Units
from . import questions, states
from .states import EMPTY_ANSWER
from .types import SEND

logger = logging.getLogger("flask_conversations")

WORKER_LOST = {"code": "interrupted", "detail": "The worker that was answering went away."}


def recover(units: Units, limit: int = 100) -> int:
    """End the turns whose worker is dead, and return their number. As the system it covers all users."""
    ended = 0
    for conversation_id, turn_id in units.read(dead_turns, limit):
        try:
            ended += units.write(recover_turn, conversation_id, turn_id)
        except ConversationNotFound:
            continue  # permanently deleted meanwhile
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - the other turns must be recovered all the same
            logger.error("Turn %s could not be ended: %s", turn_id, redacted_traceback(error))
    return ended


def recover_conversation(units: Units, conversation_id: str) -> bool:
    """End the dead turns of a conversation; True if there were any.

    It does nothing inside a transaction of the caller, which may have locked the conversation: a later read recovers it.
    """
    with units.session() as session:
        if not transaction.is_free(session) or not units.read(poll_status, conversation_id).dead:
            return False
    try:
        return bool(recover(units.own))
    except StorageUnavailable:
        return False


def poll_status(work: UnitOfWork, conversation_id: str) -> PollRow:
    """Id, version and `rev` of a conversation, and whether a turn of it is dead: one statement."""
    found = turn_rows.poll_status(work.store, conversation_id)
    if found is None:
        raise work.store.missing(conversation_id)
    return found


def recover_turn(work: UnitOfWork, conversation_id: str, turn_id: str) -> bool:
    """End a turn if its worker is still dead; True if it was ended."""
    conversation = work.store.lock(conversation_id, trash=True)
    live = turn_rows.live(work.store, conversation)
    turn = next((each for each in _recoverable(work, live) if each.id == turn_id), None)
    return turn is not None and _interrupt(work, conversation.id, turn, live)


def end_orphan(work: UnitOfWork, conversation_id: str) -> None:
    """End a turn that waits for an approval, but whose answer was deleted."""
    live_turns(work, work.store.lock(conversation_id))


def dead_turns(work: UnitOfWork, limit: int = 100) -> list[tuple[str, str]]:
    """The conversation id and the id of each turn whose worker is dead."""
    return [(turn.conversation_id, turn.id) for turn in turn_rows.dead(work.store, limit=limit)]


def renew_leases(work: UnitOfWork, tokens: Sequence[str]) -> dict[str, bool]:
    """Renew the leases of *tokens*: whether each turn has a stop request. A token that is missing has lost its lease."""
    return turn_rows.renew(work.store, tokens, lease=work.config.turn_lease)


def stop_requests(work: UnitOfWork, tokens: Sequence[str]) -> set[str]:
    """Those of *tokens* whose turn a user has cancelled."""
    return turn_rows.stop_requests(work.store, tokens)


def live_turns(work: UnitOfWork, conversation: ConversationRow) -> turn_rows.Live:
    """The live turns of a locked conversation, after dead ones were ended."""
    live = turn_rows.live(work.store, conversation)
    orphan = live.active if live.active is not None and live.active.state == AWAITING else None
    if orphan is not None and rows.one(work.store, conversation.id, orphan.answer_id) is None:
        states.drop(work, work.store.lock(conversation.id), orphan)
    elif not _recoverable(work, live):
        return live
    for turn in _recoverable(work, live):
        _interrupt(work, conversation.id, turn, live)
    return turn_rows.live(work.store, conversation)


def _recoverable(work: UnitOfWork, live: turn_rows.Live) -> list[TurnRow]:
    """The dead turns. A database in memory renews no leases: there the turns that this process executes are not dead."""
    if not work.backend.shares_one_connection:
        return live.dead
    return [turn for turn in live.dead if work.backend.turns.find(turn.id) is None]


def _interrupt(work: UnitOfWork, conversation_id: str, turn: TurnRow, live: turn_rows.Live) -> bool:
    conversation = work.store.lock(conversation_id, trash=True)
    if turn.state == WAITING:
        if any(each.state != WAITING and not each.dead for each in live):
            return False  # its question is stored after the turn before it has ended
        turn = store_question(work, conversation, turn)
        conversation = work.store.lock(conversation_id, trash=True)
    message_id = turn.answer_id or new_id()
    values = {"state": INTERRUPTED, "token": None, "ended_at": now(), "error": WORKER_LOST, "answer_id": message_id}
    moved = states.advance(work, turn, values, states=LIVE_STATES)
    error = {"metadata": {"error": WORKER_LOST}}
    written = states.update_answer(work, conversation, message_id, error, INTERRUPTED)
    if written is None and turn.answer_id is None:
        written = states.append_answer(work, conversation, moved, message_id, {**EMPTY_ANSWER, **error}, INTERRUPTED)
    if written is None:
        states.step_version_once(work, conversation)
    return True


def store_question(work: UnitOfWork, conversation: ConversationRow, turn: TurnRow) -> TurnRow:
    """Store the question of a turn that never began: no message is lost with its worker."""
    request = dict(turn.request or {"row": None, "message_id": None})
    if request["row"]:
        request["row"]["created_at"] = rules.moment(request["row"]["created_at"])
    try:
        question = _put_if_possible(work, conversation, turn.kind, request)
    except (MessageNotFound, ValidationFailed):
        # the message that it refers to was deleted: the question is stored without the reference
        row = request["row"] and {name: value for name, value in request["row"].items() if name != "parent_id"}
        question = _put_if_possible(work, conversation, SEND, {**request, "row": row}) if row else None
    values = {"request": None, "question_id": question["id"] if question else None}
    return turn_rows.move(work.store, turn, values) or turn


def _put_if_possible(
    work: UnitOfWork, conversation: ConversationRow, kind: str, request: Mapping[str, Any]
) -> Message | None:
    """Store the question in a savepoint; None if another message has its client id."""
    try:
        with savepoint(work.store):
            return questions.put(work, conversation, kind, request)
    except ClientIdConflict:
        return None
    except IntegrityError as error:
        if not db_errors.is_duplicate(error):
            raise
        return None
