"""Server-sent events: a turn told as it happens, and taken up again wherever a connection was lost."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flask import Response, request

from .. import errors
from ..proxies import current_conversations, state
from ..schemas import turn_forms as forms
from ..schemas.common import encoded
from . import answers, ui
from .routing import Routes, idempotency
from .spelling import to_camel

routes = Routes()

MIMETYPE = "text/event-stream"
RETRY = 2000
"""Milliseconds after which a client should come back."""

_LAST_EVENT_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):(\d{1,15})")


@routes.add(
    "GET",
    "/<conversation_id>/stream",
    query=forms.StreamQuery,
    answers={200: "The events of the turn", 204: "No turn is under way"},
)
def resume_stream(conversation_id: str, query: dict[str, Any]) -> Any:
    """Follow the turn under way: from its beginning, or from behind `Last-Event-ID`."""
    last = request.headers.get("Last-Event-ID")
    if last is not None:
        return _resumed(conversation_id, last, query.get("protocol"))
    running = current_conversations.running(conversation_id)
    if running is None:
        return Response(status=204)
    refuse_too_many()
    return of_turn(conversation_id, running, 0, query.get("protocol"))


def _resumed(conversation_id: str, last: str, protocol: str | None) -> Response:
    match = _LAST_EVENT_ID.fullmatch(last.strip())
    current_conversations.glance(conversation_id)  # whose conversation it is comes before what is asked of it
    if match is None:
        raise errors.MalformedRequest("Last-Event-ID is none that this server has given.")
    turn_id, position = match[1], int(match[2])
    turn = current_conversations.turn_to_resume(conversation_id, turn_id, position)
    if turn is None:
        return Response(status=204)
    refuse_too_many()
    return of_turn(conversation_id, turn, position, protocol)


def is_answered(arguments: Mapping[str, Any]) -> bool:
    """Whether a message of a request is a question that somebody answers."""
    return state().runner.responder is not None and arguments["body"].get("role", "user") == "user"


def is_wanted() -> bool:
    """Whether the client wants events rather than JSON."""
    accepted = (mimetype.partition(";")[0].lower() for mimetype, quality in request.accept_mimetypes if quality > 0)
    return _asked_protocol() is not None or MIMETYPE in accepted


def _asked_protocol() -> str | None:
    asked = request.args.get("protocol")
    if asked is not None and asked not in forms.PROTOCOLS:
        raise errors.ValidationFailed({"protocol": [f"Must be one of: {', '.join(forms.PROTOCOLS)}."]})
    return asked


def of_new_turn(
    conversation_id: str,
    kind: str,
    message: Mapping[str, Any] | None,
    message_id: str | None = None,
    *,
    protocol: str | None = None,
) -> Response:
    """Begin a turn and tell what happens in it. Whoever began it may go away: it does not end with the stream."""
    refuse_too_many()
    protocol = protocol or _asked_protocol()
    begun = current_conversations.ask(
        conversation_id,
        kind,
        message=message,
        message_id=message_id,
        key=idempotency(),
        protocol=protocol,
        wait=False,
    )
    if begun["turn"] is None and protocol == "ui":
        return _response(ui.nothing(), ui.HEADERS)
    if begun["turn"] is None:
        return _response(_only(begun["question"], answers.of_this_request()["case"]), None)
    return of_turn(conversation_id, begun["turn"], 0, protocol, replayed=begun["replayed"])


def of_turn(
    conversation_id: str,
    turn: Mapping[str, Any],
    position: int,
    protocol: str | None = None,
    *,
    replayed: bool = False,
    continued: bool = False,
) -> Response:
    """The events of a turn from *position* on. Whoever calls has looked whether there is room, before what cannot be undone."""
    follower = current_conversations.follow(conversation_id, turn["id"], position)
    if (protocol or turn.get("protocol")) == "ui":
        told, headers = ui.told(follower, turn["id"], follower.heard, position, continued=continued), ui.HEADERS
        seconds = math.inf  # a page takes the end of the stream for the end of the answer
    else:
        told, headers = _told(follower, turn["id"], answers.of_this_request()["case"]), {}
        seconds = state().config.stream_seconds
    answer = _response(_limited(told, state().runner, seconds), headers)
    if replayed:
        answer.headers["Idempotency-Replayed"] = "true"
    return answer


def end_of(answer: Mapping[str, Any] | None) -> int:
    """The position behind what an answer has said by now."""
    return current_conversations.end_of(answer)


def refuse_too_many() -> None:
    """More streams than threads would leave none for other requests: clients poll the state instead."""
    if state().runner.streams >= state().config.stream_limit:
        raise TooManyStreams


class TooManyStreams(errors.ConversationsError):
    """This server keeps no more streams open at the moment: ask for the state instead."""

    status, code, title, retryable, retry_after = 503, "too_many_streams", "Service Unavailable", True, 5


def _response(told: Iterable[str], headers: Mapping[str, str] | None) -> Response:
    answer = Response((text.encode() for text in told), mimetype=MIMETYPE, headers=dict(headers or {}))
    answer.headers["Cache-Control"] = "private, no-store, no-transform"
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


def _limited(told: Iterator[str], runner: Any, seconds: float) -> Iterator[str]:
    """What is told, for so many seconds: then the client comes back, and shows again who it is."""
    until = time.monotonic() + seconds
    runner.open_stream()
    try:
        for text in told:
            yield text
            if time.monotonic() > until:
                return
    finally:
        runner.open_stream(-1)


def _told(follower: Iterable[Any], turn_id: str, case: str) -> Iterator[str]:
    yield f"retry: {RETRY}\n\n"
    position = 0
    try:
        for sent in follower:
            if sent is None:
                yield ": still here\n\n"
                continue
            position = sent.position
            yield f"id: {turn_id}:{position}\nevent: {sent.event}\ndata: {_spelt(sent.data, case)}\n\n"
    except errors.ConversationsError as error:
        # the status is sent: that the conversation was deleted, say, can only be told as an event
        told = {"code": error.code, "detail": error.detail, "retryable": error.retryable}
        for event, data in (("error", told), ("done", {})):
            yield f"id: {turn_id}:{position}\nevent: {event}\ndata: {_spelt(data, case)}\n\n"


def _spelt(data: Any, case: str) -> str:
    return encoded(to_camel(data) if case == "camel" else data).decode()


def _only(question: Mapping[str, Any], case: str) -> Iterator[str]:
    """What there is to tell where nobody answers."""
    yield f"retry: {RETRY}\n\n"
    yield f"event: message.created\ndata: {_spelt(question, case)}\n\n"
    yield 'event: state\ndata: {"state":"idle"}\n\n'
    yield "event: done\ndata: {}\n\n"
