"""The transitions of a turn. Each is one transaction under the conversation's lock, and checks the worker's token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import (
    ClientIdConflict,
    IdempotencyKeyReused,
    ToolCallNotFound,
    ToolCallSettled,
    TurnInProgress,
)
from ...ids import new_id, now
from ...schemas import messages as schema
from ...schemas import rules
from ...schemas.common import iso
from ...schemas.types import Message
from ...store import conversations as conversation_rows
from ...store import messages as rows
from ...store import turns as turn_rows
from ...store.rows import ConversationRow, TurnRow
from ...tables import AWAITING, LIVE_STATES, PROCESSING, STREAMING, WAITING
from .. import idempotency
from .. import messages as message_rules
from ..outcome import Outcome
from ..unit_of_work import UnitOfWork
from . import questions, states
from .answers import decided_part
from .recovery import live_turns, store_question
from .states import EMPTY_ANSWER
from .types import HOST, SEND, LeaseLost, StartedTurn, TurnRequest


def begin_turn(work: UnitOfWork, request: TurnRequest, token: str) -> StartedTurn:
    """Store the question and begin a turn, or queue the turn behind the active one.

    A retry of a request returns the turn of the first one. Raises `TurnInProgress` if the queue is full.
    """
    row = (
        message_rules.prepared(work, request.conversation_id, request.message) if request.message is not None else None
    )
    conversation = work.store.lock(request.conversation_id)
    known = _earlier_turn(work, conversation, request, row)
    if known is not None:
        return known
    live = live_turns(work, conversation)
    stored = {"row": row, "message_id": request.message_id}
    if live and not request.only_question:
        _refuse_to_wait(work, live)
        return StartedTurn(_enqueue(work, conversation, request, live, stored, token), None)
    # appending a message reads the conversation again, and increments its version
    appends = request.kind in (SEND, HOST)
    question = questions.put(work, conversation if appends else work.store.lock(conversation.id), request.kind, stored)
    if request.only_question:
        return StartedTurn(None, question)
    values = {
        "state": PROCESSING,
        "question_id": question["id"] if question else None,
        "token": token,
        "started_at": now(),
    }
    turn = _insert(work, conversation, request, live, values, stored)
    if not appends:
        states.step_version_once(work, conversation)
    states.announce_state(work, turn, None)
    return StartedTurn(turn, question)


def _earlier_turn(
    work: UnitOfWork, conversation: ConversationRow, request: TurnRequest, row: dict[str, Any] | None
) -> StartedTurn | None:
    """The turn that an earlier, equal request has begun."""
    if request.key is not None and (turn := turn_rows.find(work.store, conversation, "key", request.key)):
        if turn.fingerprint != request.fingerprint:
            raise IdempotencyKeyReused
        return StartedTurn(turn, _question_of(work, conversation, turn), True)
    client_id = row.get("client_id") if row else None
    if row is None or client_id is None:
        return None
    turn = turn_rows.find(work.store, conversation, "client_id", client_id)
    if turn is not None and turn.request is not None:
        if turn.request["row"]["fingerprint"] != row["fingerprint"]:
            raise ClientIdConflict
        return StartedTurn(turn, None, True)
    if rows.by_client_id(work.store, conversation, client_id) is None:
        return None
    message = message_rules.replayed(work, conversation.id, row)
    turn = turn or turn_rows.find(work.store, conversation, "question_id", message["id"])
    return StartedTurn(turn, message, True)


def _question_of(work: UnitOfWork, conversation: ConversationRow, turn: TurnRow) -> Message | None:
    found = rows.one(work.store, conversation.id, turn.question_id) if turn.question_id else None
    return schema.dump(found) if found is not None else None


def _refuse_to_wait(work: UnitOfWork, live: turn_rows.Live) -> None:
    active = live.active
    if active is not None and active.state == AWAITING:
        raise TurnInProgress("A tool call waits for your approval: decide it, or cancel the turn.")
    if sum(turn.state == WAITING for turn in live) >= work.config.turn_queue:
        raise TurnInProgress


def _enqueue(
    work: UnitOfWork,
    conversation: ConversationRow,
    request: TurnRequest,
    live: turn_rows.Live,
    stored: dict[str, Any],
    token: str,
) -> TurnRow:
    row = stored["row"]
    questions.check(work, conversation, request, row)
    kept = {**stored, "row": {**row, "created_at": iso(row["created_at"])} if row else None}
    turn = _insert(work, conversation, request, live, {"state": WAITING, "token": token, "request": kept}, stored)
    conversation_rows.change(work.store, conversation.id, {})
    states.announce_state(work, turn, None)
    return turn


def _insert(
    work: UnitOfWork,
    conversation: ConversationRow,
    request: TurnRequest,
    live: turn_rows.Live,
    values: dict[str, Any],
    stored: Mapping[str, Any],
) -> TurnRow:
    row = {
        "conversation_id": conversation.id,
        "org_id": conversation.org_id,
        "user_id": conversation.user_id,
        "number": live.newest_number + 1,
        "id": new_id(),
        "kind": request.kind,
        "protocol": request.protocol,
        "client_id": (stored["row"] or {}).get("client_id"),
        "key": request.key,
        "fingerprint": request.fingerprint,
        "question_id": None,
        "request": None,
        "started_at": None,
        **values,
    }
    return turn_rows.insert(work.store, row, lease=work.config.turn_lease)


def start_waiting(work: UnitOfWork, turn: TurnRow, token: str) -> StartedTurn | None:
    """Begin the first turn of the queue; None if *turn* is not the first. Raises `LeaseLost` if it was ended."""
    conversation = states.lock_conversation(work, turn)
    live = live_turns(work, conversation)
    mine = next((each for each in live if each.id == turn.id and each.token == token), None)
    if mine is not None and mine.state != WAITING:
        # it has begun: the caller retries after an unknown outcome
        return StartedTurn(mine, _question_of(work, conversation, mine))
    if mine is None or mine.cancelled:
        raise LeaseLost
    if live.active is not None or live[0].number < mine.number:
        return None
    request = mine.request
    assert request is not None, "a waiting turn has its request"
    if request["row"]:
        request["row"]["created_at"] = rules.moment(request["row"]["created_at"])
    question = questions.put(work, work.store.lock(conversation.id), mine.kind, request)
    values = {
        "state": PROCESSING,
        "request": None,
        "question_id": question["id"] if question else None,
        "started_at": now(),
    }
    moved = states.advance(work, mine, values, token=token, states=(WAITING,), lease=work.config.turn_lease)
    states.step_version_once(work, conversation)
    return StartedTurn(moved, question)


def begin_answer(work: UnitOfWork, turn: TurnRow, token: str, message_id: str, columns: Mapping[str, Any]) -> TurnRow:
    """Insert the answer with its first text, visible to readers; returns the turn. Raises `LeaseLost`."""
    conversation = states.lock_conversation(work, turn)
    # STREAMING too: the caller retries after an unknown outcome
    moved = states.advance_own(
        work, turn, {"state": STREAMING, "answer_id": message_id}, token, (PROCESSING, STREAMING)
    )
    if states.update_answer(work, conversation, message_id, columns, STREAMING) is None:
        began = turn.answer_id is None
        if not began or states.append_answer(work, conversation, moved, message_id, columns, STREAMING) is None:
            return states.drop(work, conversation, moved)
    return moved


def checkpoint(work: UnitOfWork, turn: TurnRow, token: str, message_id: str, columns: Mapping[str, Any]) -> bool:
    """Save the answer so far; returns whether the turn has a stop request. Raises `LeaseLost`."""
    conversation = states.lock_conversation(work, turn)
    moved = states.advance_own(work, turn, {}, token, (STREAMING,))
    if states.update_answer(work, conversation, message_id, columns, STREAMING) is None:
        states.drop(work, conversation, moved)
        return True
    return bool(moved.cancelled)


def await_approval(
    work: UnitOfWork,
    turn: TurnRow,
    token: str,
    message_id: str,
    columns: Mapping[str, Any],
    calls: Sequence[Mapping[str, Any]],
) -> None:
    """Wait for the user's decision about *calls*; no worker holds the turn meanwhile. Raises `LeaseLost`."""
    conversation = states.lock_conversation(work, turn)
    parts = len(columns["parts"])
    waiting = [
        {"id": call["id"], "name": call["name"], "arguments": call["arguments"], "decision": None, "parts": parts}
        for call in calls
    ]
    values = {"state": AWAITING, "answer_id": message_id, "calls": [*(turn.calls or []), *waiting], "token": None}
    moved = states.advance(work, turn, values, token=token, states=(PROCESSING, STREAMING))
    if states.write_answer(work, conversation, turn, moved, columns) is None:
        states.drop(work, conversation, moved)


def decide_calls(
    work: UnitOfWork,
    conversation_id: str,
    ids: Sequence[str],
    decision: str,
    token: str,
    *,
    key: str | None = None,
    answer_id: str | None = None,
) -> tuple[TurnRow, bool, bool]:
    """Decide tool calls, those of *answer_id* if that is given. Once all are decided the turn goes on, with *token*.

    Returns the turn, whether it goes on now, and whether an earlier request with *key* made the same decision.

    Raises `NotFound` for an unknown call and `Conflict` for a decided one, and changes nothing then.
    """
    conversation = work.store.lock(conversation_id)
    live_turns(work, conversation)
    turn = turn_rows.newest(work.store, work.store.lock(conversation.id))
    calls = {call["id"]: call for call in (turn.calls or [])} if turn is not None else {}
    if unknown := [one for one in ids if one not in calls]:
        raise ToolCallNotFound(f"There is no tool call {unknown[0][:100]!r} to decide here.")
    known = {name for name, call in calls.items() if key is not None and call.get("key") == key}
    if turn is not None and known:
        if known != set(ids) or any(calls[one]["decision"] != decision for one in ids):
            raise IdempotencyKeyReused
        return turn, False, True
    if turn is None or any(calls[one]["decision"] for one in ids) or turn.state != AWAITING:
        raise ToolCallSettled
    if answer_id not in (None, turn.answer_id):
        raise ToolCallSettled  # another turn has calls with the same ids
    for one in ids:
        calls[one].update(decision=decision, **({"key": key} if key else {}))
    if _decide_in_answer(work, conversation, turn, calls) is None:
        return states.drop(work, conversation, turn), False, False
    if any(call["decision"] is None for call in calls.values()):
        return states.advance(work, turn, {"calls": turn.calls}, states=(AWAITING,)), False, False
    values = {"state": PROCESSING, "calls": turn.calls, "token": token}
    return states.advance(work, turn, values, states=(AWAITING,), lease=work.config.turn_lease), True, False


def _decide_in_answer(
    work: UnitOfWork, conversation: ConversationRow, turn: TurnRow, calls: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    message = rows.one(work.store, conversation.id, turn.answer_id)
    decided = {name: call["decision"] for name, call in calls.items()}
    parts = [decided_part(part, decided) for part in (message.parts or [])] if message is not None else None
    columns = {"parts": parts} if parts is not None else {}
    return states.update_answer(work, conversation, turn.answer_id, columns, AWAITING)


def end_turn(
    work: UnitOfWork,
    turn: TurnRow,
    token: str | None,
    message_id: str,
    columns: Mapping[str, Any] | None,
    state: str,
    error: Mapping[str, Any] | None = None,
) -> tuple[TurnRow, Message] | None:
    """End the turn and store its answer. Without *token* the turn may belong to any worker. Raises `LeaseLost`.

    Without *columns* the answer stays as the last checkpoint saved it. The question of a waiting turn is stored. Returns
    the turn and its answer; None if the answer was deleted.
    """
    conversation = states.lock_conversation(work, turn)
    if token is None or turn.state == WAITING:
        conversation, turn = _reload(work, conversation, turn)
    if columns is None:
        columns = {} if turn.answer_id else EMPTY_ANSWER
    values = {"state": state, "token": None, "ended_at": now(), "error": error, "request": None}
    moved = states.advance(
        work, turn, {**values, "answer_id": turn.answer_id or message_id}, token=token, states=LIVE_STATES
    )
    answer = states.write_answer(work, conversation, turn, moved, columns)
    if answer is None:
        states.step_version_once(work, conversation)
        return None
    return moved, answer


def _reload(work: UnitOfWork, conversation: ConversationRow, turn: TurnRow) -> tuple[ConversationRow, TurnRow]:
    """Read the conversation and the turn again; the question of a waiting turn is stored. Raises `LeaseLost`."""
    live = turn_rows.live(work.store, conversation)
    current = next((each for each in live if each.id == turn.id), None)
    if current is None:
        raise LeaseLost
    if current.state != WAITING:
        return conversation, current
    if live.active is not None or live[0].id != current.id:
        raise LeaseLost  # the turns before it have not ended: recovery stores its question once its lease has expired
    current = store_question(work, conversation, current)
    return work.store.lock(conversation.id), current


def request_stop(work: UnitOfWork, conversation_id: str, key: tuple[str, str] | None = None) -> Outcome:
    """Ask the worker of the active turn to end it, and return the turn; None if there is none.

    With a repeated *key* it returns the turn of the first request: a turn that has begun since is not ended.
    """
    if key is None:
        return Outcome(_request_stop(work, conversation_id), False)
    once = idempotency.answer_once(
        work, "cancel_turn", *key, lambda: _stored_stop(_request_stop(work, conversation_id))
    )
    if once.result["turn_id"] is None:
        return Outcome(None, once.replayed)
    conversation = work.store.get(conversation_id)
    return Outcome(turn_rows.find(work.store, conversation, "id", once.result["turn_id"]), once.replayed)


def _stored_stop(turn: TurnRow | None) -> dict[str, Any]:
    """The stored answer of an idempotent stop request."""
    return {"turn_id": turn.id, "conversation_id": turn.conversation_id} if turn is not None else {"turn_id": None}


def _request_stop(work: UnitOfWork, conversation_id: str) -> TurnRow | None:
    conversation = work.store.lock(conversation_id)
    live = live_turns(work, conversation)
    turn = live.active or (live[0] if live else None)
    if turn is not None and not turn.cancelled:
        turn_rows.stop(work.store, turn)
    return turn
