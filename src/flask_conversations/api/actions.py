"""Operations on turns over HTTP. Each answer is the full state of the conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, request

from ..proxies import current_conversations, state
from ..schemas import http_schemas, types
from ..service import http
from . import responses, stream
from .conversations import refuse_unwritable
from .routing import Routes, idempotency

routes = Routes()


def has_responder(arguments: dict[str, Any]) -> bool:
    """Whether the request begins a turn, which stores its Idempotency-Key itself: a turn is too long for one transaction."""
    return state().turns.responder is not None


@routes.add(
    "GET", "/<conversation_id>/state", query=http_schemas.StateQuery, answers={200: types.State, 304: "Not modified"}
)
def get_state(conversation_id: str, query: dict[str, Any]) -> Any:
    """Get the full state of a conversation for a page. A poll without changes costs one statement."""
    etag = http.state_etag(state().current_units(), conversation_id)
    if responses.matches(request.headers.get("If-None-Match"), etag):
        return Response(status=304, headers={"ETag": f'"{etag}"'})
    found = current_conversations.get_state(conversation_id, limit=query.get("limit", 50))
    return found, 200, {"ETag": f'"{found["conversation"]["etag"]}"'}


def _prefers_async() -> bool:
    """Whether the client wants an answer before the turn has ended: RFC 7240."""
    return "respond-async" in request.headers.get("Prefer", "").lower()


def _full_state(conversation_id: str, outcome: Mapping[str, Any] | None, status: int = 200) -> Any:
    found = current_conversations.get_state(conversation_id)
    headers = {"ETag": f'"{found["conversation"]["etag"]}"'}
    if outcome is not None and outcome.get("replayed"):
        headers["Idempotency-Replayed"] = "true"
    return found, status, headers


def _begin_turn(conversation_id: str, kind: str, message: dict[str, Any] | None, message_id: str | None = None) -> Any:
    """Begin a turn, and answer as the client prefers: with its events, immediately, or when it has ended."""
    if stream.is_wanted():
        return stream.of_new_turn(conversation_id, kind, message, message_id)
    is_async = _prefers_async()
    outcome = http.ask(
        state().current_units(),
        conversation_id,
        kind,
        message=message,
        message_id=message_id,
        key=idempotency(),
        wait=not is_async,
    )
    return _full_state(conversation_id, outcome, 202 if is_async and outcome["turn"] else 200)


@routes.add(
    "POST",
    "/<conversation_id>/actions/send_message",
    body=http_schemas.SendIn,
    answers={200: types.State, 202: types.State},
    limit="send",
    turns=has_responder,
)
def send_message(conversation_id: str, body: dict[str, Any]) -> Any:
    """Send a message and have it answered."""
    refuse_unwritable([body])
    return _begin_turn(conversation_id, "send", body)


@routes.add(
    "POST",
    "/<conversation_id>/actions/regenerate",
    body=http_schemas.RegenerateIn,
    answers={200: types.State, 202: types.State},
    limit="send",
    turns=has_responder,
)
def regenerate(conversation_id: str, body: dict[str, Any]) -> Any:
    """Have a question answered again; the existing answers stay beside the new one."""
    return _begin_turn(conversation_id, "regenerate", None, body.get("message_id"))


@routes.add(
    "POST",
    "/<conversation_id>/actions/edit",
    body=http_schemas.EditIn,
    answers={200: types.State, 202: types.State},
    limit="send",
    turns=has_responder,
)
def edit(conversation_id: str, body: dict[str, Any]) -> Any:
    """Edit a question and have it answered; the earlier messages stay on their own branch."""
    message_id = body.pop("message_id")
    return _begin_turn(conversation_id, "edit", {"role": "user", **body}, message_id)


@routes.add(
    "POST",
    "/<conversation_id>/actions/approve_tools",
    body=http_schemas.ApproveIn,
    answers={200: types.State, 202: types.State},
    turns=lambda arguments: True,
)
def approve_tools(conversation_id: str, body: dict[str, Any]) -> Any:
    """Approve or deny tool calls; once all are decided, the turn goes on."""
    if stream.is_wanted():
        stream.refuse_too_many()
    is_async = stream.is_wanted() or _prefers_async()
    outcome = current_conversations.approve_tools(
        conversation_id, **body, idempotency_key=(idempotency() or [None])[0], wait=not is_async
    )
    if stream.is_wanted():
        assert outcome["turn"] is not None, "its calls were decided just now"
        return stream.of_turn(conversation_id, outcome["turn"], calls=body["tool_call_ids"])
    return _full_state(conversation_id, outcome, 202 if is_async else 200)


@routes.add(
    "POST",
    "/<conversation_id>/actions/cancel",
    body=http_schemas.Empty,
    answers={200: types.State},
    turns=lambda arguments: True,
)
def cancel(conversation_id: str, body: dict[str, Any]) -> Any:
    """End the active turn and keep its answer so far; without one nothing changes."""
    outcome = http.cancel(state().current_units(), conversation_id, idempotency())
    return _full_state(conversation_id, {"replayed": outcome.replayed})
