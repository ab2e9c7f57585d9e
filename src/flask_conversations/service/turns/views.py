"""Reading turns: the state of a conversation, one turn with its messages, and the context of a responder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ... import transaction
from ...errors import MalformedRequest
from ...schemas import conversations as conversation_schema
from ...schemas import messages as schema
from ...schemas import types
from ...schemas.types import Conversation, Message, State
from ...store import messages as rows
from ...store import turns as turn_rows
from ...store.rows import TurnRow
from ...tables import AWAITING, LIVE_STATES, WAITING
from .. import branches as branch_rules
from .. import reading
from ..unit_of_work import UnitOfWork, Units
from . import recovery
from .types import TurnView, dump, public_state


class UnknownTurn(MalformedRequest):
    """There is no such turn in this conversation."""


class TurnContext(NamedTuple):
    """The stored data that a responder gets."""

    conversation: Conversation
    question: Mapping[str, Any] | None
    messages: list[Message]
    """The messages up to the question, the oldest first."""


def get_state(units: Units, conversation_id: str, limit: int) -> State:
    """The newest messages of a conversation, the state of its turn, and the pending approvals."""
    recovery.recover_conversation(units, conversation_id)
    found = units.read_as("get_state", state, conversation_id, limit)
    if found is None:
        with units.session() as session:
            # otherwise the caller may have locked the conversation: a later read ends the turn
            if transaction.is_free(session):
                units.own.write(recovery.end_orphan, conversation_id)
        found = units.read(state, conversation_id, limit, orphaned=True)
    assert found is not None
    return found


def state(work: UnitOfWork, conversation_id: str, limit: int, *, orphaned: bool = False) -> State | None:
    """None if a turn waits for an approval, but its answer was deleted; *orphaned* ignores such a turn."""
    conversation = work.store.get(conversation_id)
    page = reading.page_as_dicts(work, reading.PageQuery(conversation.id, limit))
    turn = turn_rows.newest(work.store, conversation)
    awaiting = turn if turn is not None and turn.state == AWAITING and not orphaned else None
    if awaiting is not None and rows.one(work.store, conversation.id, awaiting.answer_id) is None:
        return None
    waiting = [each for each in turn_rows.live(work.store, conversation) if each.state == WAITING]
    shown = conversation_schema.dump(conversation)
    siblings = branch_rules.siblings_of(work, conversation.id, page.messages) if conversation.branched else {}
    return {
        "conversation": shown,
        "messages": page.messages,
        "next_cursor": page.rest["next_cursor"],
        "has_more": page.rest["has_more"],
        "state": public_state(turn.state if turn is not None else None),
        "turn": dump(turn) if turn is not None else None,
        "pending_actions": _pending_actions(turn),
        "waiting": [_waiting_turn(each) for each in waiting],
        "siblings": siblings,
        "branches": branch_rules.branches_of(work, conversation),
        "version": shown["version"],
        "checksum": shown["checksum"],
    }


def get_page(
    units: Units, rule: Callable[[UnitOfWork, reading.PageQuery], reading.Page], query: reading.PageQuery
) -> reading.Page:
    """A page of messages; read again if it had a growing answer whose worker is dead."""
    page = units.read_as("get_messages", rule, query)
    if page.has_growing and recovery.recover_conversation(units, page.conversation_id):
        page = units.read(rule, query)
    return page


def turn_view(units: Units, conversation_id: str, turn_id: str) -> TurnView:
    """A turn with its question and answer, after a dead one was ended."""
    view = units.read(_turn_view, conversation_id, turn_id)
    turn = view["turn"]
    if turn.dead and turn.state in LIVE_STATES and units.backend.turns.find(turn_id) is None:
        units.own.write(recovery.recover_turn, turn.conversation_id, turn_id)
    elif turn.state == AWAITING and view["answer"] is None:
        units.own.write(recovery.end_orphan, turn.conversation_id)
    else:
        return view
    return units.read(_turn_view, conversation_id, turn_id)


def _turn_view(work: UnitOfWork, conversation_id: str, turn_id: str) -> TurnView:
    conversation = work.store.get(conversation_id)
    turn = turn_rows.find(work.store, conversation, "id", turn_id)
    if turn is None:
        raise UnknownTurn
    question, answer = (
        rows.one(work.store, conversation.id, one) if one else None for one in (turn.question_id, turn.answer_id)
    )
    return {
        "turn": turn,
        "question": schema.dump(question) if question is not None else None,
        "answer": schema.dump(answer) if answer is not None else None,
    }


def unanswered_question(work: UnitOfWork, conversation_id: str, message_id: str) -> Message:
    """A question without a turn. Raises `UnknownTurn` if there is no such question."""
    conversation = work.store.get(conversation_id)
    question = rows.one(work.store, conversation.id, message_id)
    if question is None or question.role != "user":
        raise UnknownTurn
    if turn_rows.find(work.store, conversation, "question_id", question.id) is not None:
        raise UnknownTurn
    return schema.dump(question)


def current_turn(work: UnitOfWork, conversation_id: str) -> types.Turn | None:
    """The active turn, or else the first waiting one; None if there is none."""
    conversation = work.store.get(conversation_id)
    live = turn_rows.live(work.store, conversation)
    turn = live.active or (live[0] if live else None)
    return dump(turn) if turn is not None else None


def turn_context(work: UnitOfWork, turn: TurnRow, question: Mapping[str, Any] | None) -> TurnContext:
    """The conversation, the question, and the messages up to it. *question* is read if it is None."""
    conversation = work.store.get(turn.conversation_id)
    if question is None and turn.question_id is not None:
        row = rows.one(work.store, conversation.id, turn.question_id)
        question = schema.dump(row) if row is not None else None
    place = (question["id"], question["seq"]) if question is not None else None
    found = rows.up_to(work.store, conversation, place, limit=work.config.history_limit)
    messages = [schema.dump(row) for row in reversed(found)]
    return TurnContext(conversation_schema.dump(conversation), question, messages)


def answer_parts(work: UnitOfWork, turn: TurnRow) -> list[dict[str, Any]]:
    """The stored parts of the answer of a resumed turn."""
    answer = rows.one(work.store, turn.conversation_id, turn.answer_id) if turn.answer_id else None
    if answer is None:
        return []
    message = schema.dump(answer)
    return list(message["parts"] or ([{"type": "text", "text": message["content"]}] if message["content"] else []))


def _pending_actions(turn: TurnRow | None) -> list[dict[str, Any]]:
    if turn is None or turn.state != AWAITING:
        return []
    return [
        {
            "type": "approve_tool",
            "tool_call_id": call["id"],
            "name": call["name"],
            "arguments": call["arguments"],
            "message_id": turn.answer_id,
        }
        for call in turn.calls or []
        if call["decision"] is None
    ]


def _waiting_turn(turn: TurnRow) -> dict[str, Any]:
    row = (turn.request or {}).get("row") or {}
    content = schema.content_of(row.get("content", ""), row.get("content_is_parts", False), row.get("parts"))
    return {"turn_id": turn.id, "kind": turn.kind, "client_id": turn.client_id, "content": content}
