"""The steps of each transition of a turn: lock the conversation, change the turn, write the answer."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

from ... import signals, transaction
from ...counters import Counters
from ...errors import (
    ConversationNotFound,
)
from ...identity.base import Identity
from ...ids import now
from ...schemas import messages as schema
from ...schemas.common import preview_of
from ...schemas.types import Message
from ...store import branches, requests
from ...store import conversations as conversation_rows
from ...store import messages as rows
from ...store import turns as turn_rows
from ...store.rows import ConversationRow, MessageRow, TurnRow
from ...tables import AWAITING, CANCELLED, FAILED, INTERRUPTED, LIVE_STATES, STREAMING, WAITING
from .. import messages as message_rules
from ..unit_of_work import UnitOfWork
from .types import RECORD, LeaseLost, dump, public_state

logger = logging.getLogger("flask_conversations")

_STATUS = {
    FAILED: "failed",
    CANCELLED: "interrupted",
    INTERRUPTED: "interrupted",
    AWAITING: "pending",
    STREAMING: "streaming",
}
"""The status of an answer by the state of its turn; `delivered` in any other."""

EMPTY_ANSWER: dict[str, Any] = {"content": "", "content_is_parts": False, "parts": None}


def lock_conversation(work: UnitOfWork, turn: TurnRow) -> ConversationRow:
    """Lock the conversation of a turn. Raises `LeaseLost` if it was deleted.

    If the guest who began the turn has logged in meanwhile, the unit of work goes on as that user.
    """
    try:
        return work.store.lock(turn.conversation_id)
    except ConversationNotFound:
        if work.identity is None or not work.identity.anonymous:
            raise LeaseLost from None
    try:
        conversation = work.store_of(None).lock(turn.conversation_id)
    except ConversationNotFound:
        raise LeaseLost from None
    work.act_as(Identity(conversation.user_id, conversation.org_id or None))
    return conversation


def advance_own(
    work: UnitOfWork, turn: TurnRow, values: Mapping[str, Any], token: str, states: tuple[str, ...]
) -> TurnRow:
    return advance(work, turn, values, token=token, states=states, lease=work.config.turn_lease)


def advance(work: UnitOfWork, turn: TurnRow, values: Mapping[str, Any], **conditions: Any) -> TurnRow:
    """Set columns of a turn; a new state is logged and announce_saved. Raises `LeaseLost`."""
    moved = turn_rows.move(work.store, turn, values, **conditions)
    if moved is None:
        raise LeaseLost
    if "state" in values:
        announce_state(work, moved, turn)
    return moved


def announce_state(work: UnitOfWork, turn: TurnRow, before: TurnRow | None) -> None:
    """Log that a turn has reached another state, and send the signal after the commit."""
    was = before.state if before is not None else None
    seconds = (turn.updated_at - before.updated_at).total_seconds() if before is not None else 0.0
    if work.config.audit:
        requests.log(work.store, f"turn {turn.state}", turn.conversation_id, seconds * 1000)
    transaction.after_commit(work.session, functools.partial(_log, turn, was, work.backend.turns.counters))
    previous = None if was is None else was if was == WAITING else public_state(was)
    work.announce(signals.turn_state_changed, turn=dump(turn), previous_state=previous)


def step_version_once(work: UnitOfWork, conversation: ConversationRow) -> None:
    """Increment the version of a locked conversation unless a write has done so since: a new state is a new version."""
    if work.store.get(conversation.id).version == conversation.version:
        conversation_rows.change(work.store, conversation.id, {})


def drop(work: UnitOfWork, conversation: ConversationRow, turn: TurnRow) -> TurnRow:
    """End a turn whose answer, or waiting question, was deleted."""
    values = {"state": CANCELLED, "token": None, "ended_at": now(), "request": None}
    moved = advance(work, turn, values)
    step_version_once(work, conversation)
    return moved


def write_answer(
    work: UnitOfWork, conversation: ConversationRow, turn: TurnRow, moved: TurnRow, columns: Mapping[str, Any]
) -> Message | None:
    """Store the answer with the status that belongs to the new state of the turn; None if it was deleted."""
    if moved.error:
        columns = {**columns, "metadata": {"error": moved.error}}
    message = update_answer(work, conversation, moved.answer_id, columns, moved.state)
    if message is not None or turn.answer_id is not None:
        return message
    assert moved.answer_id is not None, "each transition with an answer sets it"
    return append_answer(work, conversation, turn, moved.answer_id, columns, moved.state)


def append_answer(
    work: UnitOfWork,
    conversation: ConversationRow,
    turn: TurnRow,
    message_id: str,
    columns: Mapping[str, Any],
    state: str,
) -> Message | None:
    """Store an answer below its question; None if there is no question, or it was deleted."""
    row = {
        "role": "assistant",
        "type": "text",
        **columns,
        "id": message_id,
        "status": _STATUS.get(state, "delivered"),
        "created_at": now(),
    }
    row["digest"] = schema.digest_of(row, message_id)
    if turn.question_id is None and turn.kind != RECORD:
        return None
    if turn.question_id in (None, conversation.head_id):
        return message_rules.append(work, conversation.id, row)
    question = rows.one(work.store, conversation.id, turn.question_id)
    if question is None:
        return None
    if _is_on_active_branch(work, conversation, question):
        return message_rules.append(work, conversation.id, row)
    # the user has switched to another branch meanwhile: it stays active, and the answer goes below its question
    return _append_on_other_branch(work, conversation, turn.question_id, row)


def _is_on_active_branch(work: UnitOfWork, conversation: ConversationRow, question: MessageRow) -> bool:
    """Whether the question is on the active branch."""
    path = rows.newest(work.store, conversation.id, limit=None, after=question.seq - 1, columns=("id", "seq"))
    return path is not None and bool(path.rows) and path.rows[0].id == question.id


def _append_on_other_branch(
    work: UnitOfWork, conversation: ConversationRow, parent_id: str, row: dict[str, Any]
) -> Message:
    row["updated_at"] = row["created_at"]
    values = {
        "last_seq": conversation.last_seq + 1,
        "message_count": conversation.message_count + 1,
        "checksum": conversation.checksum ^ row["digest"],
        "branched": True,
    }
    changed = conversation_rows.change(work.store, conversation.id, values)
    branches.follow(work.store, conversation, {parent_id: row["id"]})
    return message_rules.insert(work, [row], changed, first_seq=changed.last_seq, parent_id=parent_id)[0]


def update_answer(
    work: UnitOfWork, conversation: ConversationRow, message_id: str | None, columns: Mapping[str, Any], state: str
) -> Message | None:
    """Update a stored answer; None if it does not exist."""
    message = rows.one(work.store, conversation.id, message_id) if message_id else None
    if message is None:
        return None
    status = _STATUS.get(state, "delivered")
    values = {**columns, "status": status, "version": conversation.version + 1, "updated_at": now()}
    totals: dict[str, Any] = {}
    if "content" in columns:
        values["digest"] = schema.digest_of({**columns, "role": message.role}, message.id)
        totals["checksum"] = conversation.checksum ^ message.digest ^ values["digest"]
        if message.id == conversation.head_id:
            totals["preview"] = preview_of(columns["content"])
    rows.change(work.store, conversation, message, values)
    conversation_rows.change(work.store, conversation.id, totals)
    stored = {**message._mapping, **values}
    written = schema.dump([stored[name] for name in schema.STORED])
    if status != "streaming":
        work.announce(signals.message_updated, message=written)
    return written


def _log(turn: TurnRow, was: str | None, counters: Counters) -> None:
    counters.add(turn.state)
    before = was if was == WAITING else public_state(was)
    after = turn.state if turn.state == WAITING else public_state(turn.state)
    how = "" if turn.state in LIVE_STATES else f" ({turn.state})"
    logger.info("Conversation %s: %s -> %s%s, turn %s.", turn.conversation_id, before, after, how, turn.id)
