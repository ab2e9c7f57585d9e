"""Operations on turns: ask, regenerate, decide about tool calls, cancel, follow.

Each operation takes several units of work, because a turn is committed step by step.
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
from ...store.rows import TurnRow
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
    """Begin a turn; with *wait* return when it has ended or waits for an approval."""
    if request.key is not None and request.fingerprint is None:
        payload = {"kind": request.kind, "message": request.message, "message_id": request.message_id}
        request = dataclasses.replace(request, fingerprint=canonical.fingerprint(payload))
    started = _start(units, request)
    if started.turn is not None and wait:
        return _outcome(units, started, _wait_until_ended(units, started.turn))
    return _outcome(units, started)


def _start(units: Units, request: TurnRequest) -> StartedTurn:
    """Begin a turn. It goes on if the caller disconnects or fails."""
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
    _refuse_in_transaction(units)  # before the recovery of dead turns, which could wait for the caller's own locks
    units.backend.turns.recover_once()
    return _run_committed(units, lambda units: units.write(transitions.begin_turn, request, token))


def _run_committed(units: Units, step: Callable[[Units], T]) -> T:
    """Run *step* and commit it; the caller's session holds no connection meanwhile."""
    with units.session() as session:
        _refuse_in_transaction(units)
        if units.leaves_commit_to_host(units.backend, transaction.work_of(session)):
            session.commit()
            return step(units.own)
        return step(units)


def _refuse_in_transaction(units: Units) -> None:
    with units.session() as session:
        if not transaction.is_free(session):
            raise ConfigurationError("A turn is committed step by step: it cannot be a part of a transaction.")


def _wait_until_ended(units: Units, turn: TurnRow) -> TurnView:
    """Wait until a turn has ended or waits for an approval, and return it."""
    backend = units.backend
    execution, timing, timeout = backend.turns.find(turn.id), backend.turns.timing, backend.config.turn_timeout * 4
    if execution is not None:
        execution.ended.wait(timeout)
        if execution.outcome is not None and execution.outcome["question"] is not None:
            return execution.outcome
    own, deadline, pause = units.own, time.monotonic() + timeout, timing.end_poll_interval
    while True:
        view = views.turn_view(own, turn.conversation_id, turn.id)
        state = view["turn"].state
        if state not in LIVE_STATES or state == AWAITING or time.monotonic() > deadline:
            return view
        time.sleep(pause)
        pause = min(pause * 1.5, timing.max_end_poll_interval)


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
    """Approve tool calls, or deny them. Once all pending calls are decided, the turn goes on, once."""
    problems = rules.Problems()
    ids = problems.take("tool_call_ids", rules.tool_call_ids, tool_call_ids)
    decision = "approved" if problems.take("approved", rules.boolean, approved) else "denied"
    problems.raise_any()
    token = new_id()
    turn, resumed, replayed = _run_committed(
        units,
        lambda units: units.write(
            transitions.decide_calls, conversation_id, ids, decision, token, key=idempotency_key, answer_id=message_id
        ),
    )
    registry = units.backend.turns
    if resumed and registry.responder is not None:
        registry.start(units.own, StartedTurn(turn, None), token, registry.responder)
    elif resumed:
        assert turn.answer_id is not None, "its tool calls are parts of it"
        units.own.write(transitions.end_turn, turn, token, turn.answer_id, {}, COMPLETED)
    view = _wait_until_ended(units, turn) if wait and turn.state != AWAITING else None
    return _outcome(units, StartedTurn(turn, None, replayed), view)


def cancel(units: Units, conversation_id: str, key: tuple[str, str] | None = None) -> Outcome:
    """End the active turn, keep its answer so far, and return the turn; None if there is none.

    *key* is the Idempotency-Key of a request with its fingerprint. A repeated key returns the turn of the first request.
    """
    requested = _run_committed(units, lambda units: units.write(transitions.request_stop, conversation_id, key))
    return Outcome(_stop(units, requested.result) if requested.result is not None else None, requested.replayed)


def _stop(units: Units, turn: TurnRow) -> Turn:
    """End a turn that has a stop request."""
    own, execution = units.own, units.backend.turns.find(turn.id)
    if execution is not None:
        execution.stop()
    elif turn.state in LIVE_STATES and (turn.state == AWAITING or not _wait_for_stop(own, turn)):
        with contextlib.suppress(LeaseLost):  # it may have ended meanwhile
            own.write(transitions.end_turn, turn, None, turn.answer_id or new_id(), None, CANCELLED)
    return dump(views.turn_view(own, turn.conversation_id, turn.id)["turn"])


def _wait_for_stop(units: Units, turn: TurnRow) -> bool:
    timing = units.backend.turns.timing
    deadline = time.monotonic() + timing.cancel_timeout
    while time.monotonic() < deadline:
        if views.turn_view(units, turn.conversation_id, turn.id)["turn"].state not in LIVE_STATES:
            return True
        time.sleep(timing.cancel_poll_interval)
    return False


def turn_to_resume(units: Units, conversation_id: str, turn_id: str, position: int) -> Turn | None:
    """The turn that a reader has followed up to *position*; None if no event follows."""
    view = views.turn_view(units.own, conversation_id, turn_id)
    timeline = timeline_of(view)
    if timeline.last:
        return dump(view["turn"]) if position < timeline.last else None
    execution = units.backend.turns.find(turn_id)
    if execution is not None and not execution.ended.is_set() and position > execution.next_position:
        raise MalformedRequest("Last-Event-ID is ahead of the events that were sent.")
    return dump(view["turn"])


def follow(
    units: Units, conversation_id: str, turn_id: str, position: int = 0, *, calls: Collection[str] = ()
) -> Follower:
    """The events of a turn behind *position*, or behind the decision about *calls*."""
    return Follower(units.own, conversation_id, turn_id, position, calls)


def host_turn(units: Units, conversation_id: str, message: Mapping[str, Any]) -> HostTurn:
    """Begin a turn that the caller answers, and wait until it may begin."""
    token = new_id()
    started = _begin(units, TurnRequest(conversation_id, HOST, message), token)
    if started.replayed:
        outcome = _outcome(units, started)
        return HostTurn(None, outcome["question"] or {}, outcome["answer"])
    with _adopt(units, started, token, lambda turn: None) as execution:
        return HostTurn(execution, execution.question or {})


@contextlib.contextmanager
def _adopt(units: Units, started: StartedTurn, token: str, responder: Responder) -> Iterator[TurnExecution]:
    """Register the turn of a host and wait until it may begin; an error in the block ends the turn."""
    execution: TurnExecution = units.backend.turns.adopt(units.own, started, token, responder)
    wait_in_queue(execution)
    try:
        yield execution
    except BaseException:
        with contextlib.suppress(LeaseLost):
            execution.settle(FAILED, ResponderError("The question was not answered."))
        raise


def record_stream(units: Units, conversation_id: str, chunks: Any, fields: Mapping[str, Any]) -> Iterator[str]:
    """Store an answer that the caller's model streams, and yield its text."""
    message_schema.described(fields)
    token = new_id()
    started = _begin(units, TurnRequest(conversation_id, RECORD), token)
    with _adopt(units, started, token, lambda turn: chunks) as execution:
        execution.answer.describe(fields)
        follower = follow(units, execution.turn.conversation_id, execution.turn.id)
        in_thread(execution)
    return texts(follower, execution)
