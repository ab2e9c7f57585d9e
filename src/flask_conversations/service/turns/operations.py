"""What an identity can do with turns: ask, have a question answered again, decide about tool calls, cancel, follow.

Each of these takes several units of work: a turn is committed as it goes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ... import transaction
from ...errors import ConfigurationError, MalformedRequest, NoResponder
from ...ids import new_id
from ...schemas import canonical, rules
from ...schemas import messages as message_schema
from ...schemas.types import Turn, TurnOutcome
from ...tables import AWAITING, CANCELLED, COMPLETED, FAILED, LIVE_STATES
from ...turns import ResponderError
from ..outcome import Outcome
from ..unit_of_work import Units
from . import recovery, transitions, views
from .execution import Responder, TurnExecution
from .following import Follower
from .hosting import HostTurn, in_thread, texts, wait_in_queue
from .types import (
    HOST,
    RECORD,
    REGENERATE,
    LeaseLost,
    StartedTurn,
    TurnRequest,
    TurnView,
    dump,
    public_state,
    timeline_of,
)

T = TypeVar("T")


def ask(units: Units, request: TurnRequest, *, wait: bool) -> TurnOutcome:
    """Begin a turn; with *wait* return when it has ended, or waits for an approval."""
    if request.key is not None and request.fingerprint is None:
        asked = {"kind": request.kind, "message": request.message, "message_id": request.message_id}
        request = dataclasses.replace(request, fingerprint=canonical.fingerprint(asked))
    started = _start(units, request)
    if started.turn is not None and wait:
        return _outcome(units, started, _ended(units, started.turn))
    return _outcome(units, started)


def _start(units: Units, request: TurnRequest) -> StartedTurn:
    """Begin a turn, which goes on whatever becomes of the caller."""
    registry = units.backend.turns
    responder = registry.responder
    if responder is None and request.kind == REGENERATE:
        units.read(recovery.poll_status, request.conversation_id)
        raise NoResponder
    if responder is None:
        request = dataclasses.replace(request, only_question=True)
    token = new_id()
    started = _begin(units, request, token)
    if started.turn is not None and not started.replayed and responder is not None:
        registry.start(units.own, started, token, responder)
    return started


def _begin(units: Units, request: TurnRequest, token: str) -> StartedTurn:
    if request.only_question:
        return units.write(transitions.begin_turn, request, token)
    _refuse_in_transaction(units)  # before dead turns are looked for, which could wait for the caller's own locks
    units.backend.turns.recover_once()
    return _committed(units, lambda units: units.write(transitions.begin_turn, request, token))


def _committed(units: Units, step: Callable[[Units], T]) -> T:
    """Take a step whose transaction is committed at once; the caller's session holds no connection during a wait."""
    with units.session() as session:
        _refuse_in_transaction(units)
        if units.leaves_commit_to_host(session):
            session.commit()
            return step(units.own)
        return step(units)


def _refuse_in_transaction(units: Units) -> None:
    with units.session() as session:
        if not transaction.is_free(session):
            raise ConfigurationError("A turn is committed as it goes: it cannot be a part of a transaction.")


def _ended(units: Units, turn: Any) -> TurnView:
    """A turn once it has ended, or waits for an approval."""
    backend = units.backend
    execution, timing, longest = backend.turns.find(turn.id), backend.turns.timing, backend.config.turn_timeout * 4
    if execution is not None:
        execution.ended.wait(longest)
        if execution.outcome is not None and execution.outcome["question"] is not None:
            return execution.outcome
    own, deadline, pause = units.own, time.monotonic() + longest, timing.end
    while True:
        view = views.turn_view(own, turn.conversation_id, turn.id)
        state = view["turn"].state
        if state not in LIVE_STATES or state == AWAITING or time.monotonic() > deadline:
            return view
        time.sleep(pause)
        pause = min(pause * 1.5, timing.end_at_most)


def _outcome(units: Units, started: StartedTurn, view: TurnView | None = None) -> TurnOutcome:
    if started.turn is None:
        return {
            "question": started.question,
            "answer": None,
            "state": "idle",
            "turn": None,
            "replayed": started.replayed,
        }
    if view is None:
        view = views.turn_view(units.own, started.turn.conversation_id, started.turn.id)
    return {
        "question": view["question"],
        "answer": view["answer"],
        "state": public_state(view["turn"].state),
        "turn": dump(view["turn"]),
        "replayed": started.replayed,
    }


def approve_tools(
    units: Units,
    conversation_id: str,
    tool_call_ids: Sequence[str],
    approved: bool,
    *,
    message_id: str | None,
    idempotency_key: str | None,
    wait: bool,
) -> TurnOutcome:
    """Allow tool calls, or refuse them. Once all that were asked for are decided, the turn goes on, once."""
    problems = rules.Problems()
    ids = problems.take("tool_call_ids", rules.tool_call_ids, tool_call_ids)
    decision = "approved" if problems.take("approved", rules.boolean, approved) else "denied"
    problems.raise_any()
    token = new_id()
    turn, resumed, replayed = _committed(
        units,
        lambda units: units.write(
            transitions.decide_calls, conversation_id, ids, decision, token, key=idempotency_key, answer_id=message_id
        ),
    )
    registry = units.backend.turns
    if resumed and registry.responder is not None:
        registry.start(units.own, StartedTurn(turn, None), token, registry.responder)
    elif resumed:
        units.own.write(transitions.end_turn, turn, token, turn.answer_id, {}, COMPLETED)
    view = _ended(units, turn) if wait and turn.state != AWAITING else None
    return _outcome(units, StartedTurn(turn, None, replayed), view)


def cancel(units: Units, conversation_id: str, key: tuple[str, str] | None = None) -> Outcome:
    """End the turn under way and keep what was said; the turn, None if there is none.

    *key* is the Idempotency-Key of a request, and its fingerprint: if it was used before, the turn is that of the first request.
    """
    asked = _committed(units, lambda units: units.write(transitions.request_stop, conversation_id, key))
    return Outcome(_stopped(units, asked.result) if asked.result is not None else None, asked.replayed)


def _stopped(units: Units, turn: Any) -> Turn:
    """End a turn that was asked to stop."""
    own, execution = units.own, units.backend.turns.find(turn.id)
    if execution is not None:
        execution.stop()
    elif turn.state in LIVE_STATES and (turn.state == AWAITING or not _stopped_elsewhere(own, turn)):
        with contextlib.suppress(LeaseLost):  # it may have ended by itself just now
            own.write(transitions.end_turn, turn, None, turn.answer_id or new_id(), None, CANCELLED)
    return dump(views.turn_view(own, turn.conversation_id, turn.id)["turn"])


def _stopped_elsewhere(units: Units, turn: Any) -> bool:
    timing = units.backend.turns.timing
    deadline = time.monotonic() + timing.cancel_patience
    while time.monotonic() < deadline:
        if views.turn_view(units, turn.conversation_id, turn.id)["turn"].state not in LIVE_STATES:
            return True
        time.sleep(timing.cancel_look)
    return False


def turn_to_resume(units: Units, conversation_id: str, turn_id: str, position: int) -> Turn | None:
    """The turn that a reader has followed up to *position*; None if no event follows."""
    view = views.turn_view(units.own, conversation_id, turn_id)
    timeline = timeline_of(view)
    if timeline.last:
        return dump(view["turn"]) if position < timeline.last else None
    execution = units.backend.turns.find(turn_id)
    if execution is not None and not execution.ended.is_set() and position > execution.next_position:
        raise MalformedRequest("Last-Event-ID is ahead of what was told.")
    return dump(view["turn"])


def follow(
    units: Units, conversation_id: str, turn_id: str, position: int = 0, *, calls: Collection[str] = ()
) -> Follower:
    """The events of a turn behind *position*, or from where it goes on once *calls* are decided."""
    return Follower(units.own, conversation_id, turn_id, position, calls)


def host_turn(units: Units, conversation_id: str, message: Mapping[str, Any]) -> HostTurn:
    """A turn that the caller answers, once it may begin."""
    token = new_id()
    started = _begin(units, TurnRequest(conversation_id, HOST, message), token)
    if started.replayed:
        outcome = _outcome(units, started)
        return HostTurn(None, outcome["question"] or {}, outcome["answer"])
    with _adopted(units, started, token, lambda turn: None) as execution:
        return HostTurn(execution, execution.question or {})


@contextlib.contextmanager
def _adopted(units: Units, started: StartedTurn, token: str, responder: Responder) -> Iterator[TurnExecution]:
    """The turn of a host once it has begun; ended if the host cannot be given it."""
    execution: TurnExecution = units.backend.turns.adopt(units.own, started, token, responder)
    wait_in_queue(execution)
    try:
        yield execution
    except BaseException:
        with contextlib.suppress(LeaseLost):
            execution.settle(FAILED, ResponderError("The question was not answered."))
        raise


def record_stream(units: Units, conversation_id: str, chunks: Any, fields: Mapping[str, Any]) -> Iterator[str]:
    """Store an answer that the caller's model streams, and hand on its text."""
    message_schema.described(fields)
    token = new_id()
    started = _begin(units, TurnRequest(conversation_id, RECORD), token)
    with _adopted(units, started, token, lambda turn: chunks) as execution:
        execution.answer.describe(fields)
        follower = follow(units, execution.turn.conversation_id, execution.turn.id)
        in_thread(execution)
    return texts(follower, execution)
