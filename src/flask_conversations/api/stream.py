"""Server-sent events of a turn, which a client can resume after a lost connection."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flask import Response, request

from .. import errors
from ..proxies import state
from ..schemas import http_schemas
from ..schemas.common import encoded
from ..service import http
from . import responses
from .ai_sdk import chunks
from .case import to_camel
from .routing import Routes, idempotency

if TYPE_CHECKING:
    from ..service.turns.registry import TurnRegistry

routes = Routes()

MIMETYPE = "text/event-stream"
RETRY = 2000
"""Milliseconds after which a client should reconnect."""

_LAST_EVENT_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):([0-9]{1,15})(?:-([0-9]{1,6}))?")
"""The id of a turn and a position; and a number for the error events of a stream that ended there."""


@routes.add(
    "GET",
    "/<conversation_id>/stream",
    query=http_schemas.StreamQuery,
    answers={200: "The events of the turn", 204: "There is no active turn"},
)
def resume_stream(conversation_id: str, query: dict[str, Any]) -> Any:
    """Follow the active turn: from its beginning, or from behind `Last-Event-ID`."""
    last = request.headers.get("Last-Event-ID")
    if last is not None:
        return _resumed(conversation_id, last, query.get("protocol"))
    running = http.current_turn(state().current_units(), conversation_id)
    if running is None:
        return Response(status=204)
    refuse_too_many()
    return of_turn(conversation_id, running, protocol=query.get("protocol"))


def _resumed(conversation_id: str, last: str, protocol: str | None) -> Response:
    units = state().current_units()
    match = _LAST_EVENT_ID.fullmatch(last.strip())
    http.check_conversation(units, conversation_id)  # a missing conversation takes precedence over an invalid header
    if match is None:
        raise errors.MalformedRequest("Last-Event-ID is not an id from this server.")
    turn_id, position, cuts = match[1], int(match[2]), int(match[3] or 0)
    try:
        turn = http.turn_to_resume(units, conversation_id, turn_id, position)
    except http.UnknownTurn:
        return _resumed_without_turn(conversation_id, turn_id, position)
    if turn is None:
        return Response(status=204)
    refuse_too_many()
    return of_turn(conversation_id, turn, position, protocol, cuts=cuts)


def _resumed_without_turn(conversation_id: str, message_id: str, position: int) -> Response:
    """The remaining events of a question without a turn. Raises `MalformedRequest` if there is no such question."""
    question = http.unanswered_question(state().current_units(), conversation_id, message_id)
    if position >= _UNANSWERED_LAST:
        return Response(status=204)
    return _response(_unanswered(question, responses.of_this_request()["case"], position), None)


def is_answered(arguments: Mapping[str, Any]) -> bool:
    """Whether the message of a request is a question for the responder."""
    return state().turns.responder is not None and arguments["body"].get("role", "user") == "user"


def is_wanted() -> bool:
    """Whether the client wants events rather than JSON."""
    accepted = (mimetype.partition(";")[0].lower() for mimetype, quality in request.accept_mimetypes if quality > 0)
    return _requested_protocol() is not None or MIMETYPE in accepted


def _requested_protocol() -> str | None:
    requested = request.args.get("protocol")
    if requested is not None and requested not in http_schemas.PROTOCOLS:
        raise errors.ValidationFailed({"protocol": [f"Must be one of: {', '.join(http_schemas.PROTOCOLS)}."]})
    return requested


def of_new_turn(
    conversation_id: str,
    kind: str,
    message: Mapping[str, Any] | None,
    message_id: str | None = None,
    *,
    protocol: str | None = None,
) -> Response:
    """Begin a turn and stream its events. The turn goes on when the client disconnects."""
    refuse_too_many()
    protocol = protocol or _requested_protocol()
    started = http.ask(
        state().current_units(),
        conversation_id,
        kind,
        message=message,
        message_id=message_id,
        key=idempotency(),
        protocol=protocol,
        wait=False,
    )
    if started["turn"] is None and protocol == "ui":
        return _response(chunks.empty_stream(), chunks.HEADERS)
    if started["turn"] is None:
        assert started["question"] is not None, "it was stored just now"
        return _response(_unanswered(started["question"], responses.of_this_request()["case"]), None)
    return of_turn(conversation_id, started["turn"], protocol=protocol, replayed=started["replayed"])


def of_turn(
    conversation_id: str,
    turn: Mapping[str, Any],
    position: int = 0,
    protocol: str | None = None,
    *,
    calls: Collection[str] = (),
    cuts: int = 0,
    replayed: bool = False,
    continued: bool = False,
) -> Response:
    """The events of a turn behind *position*, or behind the decision about *calls*.

    *cuts* is the number of error events that earlier streams sent at that position. The caller must call `refuse_too_many` before
    any effect that cannot be undone.
    """
    follower = http.follow(state().current_units(), conversation_id, turn["id"], position, calls=calls)
    if (protocol or turn.get("protocol")) == "ui":
        frames, headers = chunks.encode_stream(follower, turn["id"], continued=continued), chunks.HEADERS
        seconds = math.inf  # the AI SDK takes the end of the stream for the end of the answer
    else:
        frames, headers = _encode_stream(follower, turn["id"], cuts, responses.of_this_request()["case"]), {}
        seconds = state().config.stream_seconds
    answer = _response(_limited(frames, state().turns, seconds), headers)
    if replayed:
        answer.headers["Idempotency-Replayed"] = "true"
    return answer


def refuse_too_many() -> None:
    """Raise `TooManyStreams` at the limit, which leaves threads for other requests: clients poll the state instead."""
    if state().turns.streams >= state().config.stream_limit:
        raise TooManyStreams


class TooManyStreams(errors.ConversationsError):
    """This server keeps no more streams open at the moment: ask for the state instead."""

    status, code, title, retryable, retry_after = 503, "too_many_streams", "Service Unavailable", True, 5


def _response(frames: Iterable[str], headers: Mapping[str, str] | None) -> Response:
    answer = Response((text.encode() for text in frames), mimetype=MIMETYPE, headers=dict(headers or {}))
    answer.headers["Cache-Control"] = "private, no-store, no-transform"
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


def _limited(frames: Iterator[str], turns: TurnRegistry, seconds: float) -> Iterator[str]:
    """Yield *frames* for so many seconds: then the client reconnects, and is authenticated again."""
    until = time.monotonic() + seconds
    turns.open_stream()
    try:
        for text in frames:
            yield text
            if time.monotonic() > until:
                return
    finally:
        turns.open_stream(-1)


def _encode_stream(follower: http.Follower, turn_id: str, cuts: int, case: str) -> Iterator[str]:
    yield f"retry: {RETRY}\n\n"
    at = follower.position
    try:
        for sent in follower:
            if sent is None:
                yield ": still here\n\n"
                continue
            yield _event(f"{turn_id}:{sent.position}", sent.event, sent.data, case)
    except errors.ConversationsError as error:
        # the status line is already sent, so that an error (a deleted conversation, for example) is sent as an event. A reader that
        # reconnects goes on behind the position that was reached.
        cuts = cuts if follower.position == at else 0
        problem = {"code": error.code, "detail": error.detail, "retryable": error.retryable}
        for n, (event, data) in enumerate((("error", problem), ("done", {})), cuts + 1):
            yield _event(f"{turn_id}:{follower.position}-{n}", event, data, case)


def _event(event_id: str, event: str, data: Mapping[str, Any], case: str) -> str:
    return f"id: {event_id}\nevent: {event}\ndata: {_encoded(data, case)}\n\n"


def _encoded(data: Mapping[str, Any], case: str) -> str:
    return encoded(to_camel(data) if case == "camel" else data).decode()


_UNANSWERED_LAST = 3


def _unanswered(question: Mapping[str, Any], case: str, after: int = 0) -> Iterator[str]:
    """The events of a question that no responder answers."""
    yield f"retry: {RETRY}\n\n"
    events: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("message.created", question),
        ("state", {"state": "idle"}),
        ("done", {}),
    )
    for position, (event, data) in enumerate(events, 1):
        if position > after:
            yield _event(f"{question['id']}:{position}", event, data, case)
