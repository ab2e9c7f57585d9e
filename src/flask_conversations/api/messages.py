"""Messages over HTTP."""

from __future__ import annotations

from typing import Any

from flask import Response, request, url_for

from .. import errors
from ..proxies import current_conversations, state
from ..schemas import canonical, http_schemas, types
from ..service import http
from . import responses, stream
from .ai_sdk import chats
from .conversations import refuse_unwritable
from .routing import Routes, idempotency

routes = Routes()


@routes.add("GET", "/<conversation_id>/messages", query=http_schemas.MessagesQuery, answers={200: types.MessagePage})
def list_messages(conversation_id: str, query: dict[str, Any]) -> Any:
    """Get a page of messages, oldest first."""
    query["siblings"] = query.pop("include", None) == "siblings"
    if responses.of_this_request()["case"] == "snake":
        return responses.ready_answer(http.get_messages(state().current_units(), conversation_id, **query))
    return current_conversations.get_messages(conversation_id, **query)


@routes.add(
    "POST",
    "/<conversation_id>/messages",
    body=http_schemas.MessageIn,
    answers={201: types.Message, 200: types.Message},
    many=True,
    limit="send",
    turns=stream.is_answered,
    alternative=chats.CHAT_IN,
)
def save_message(conversation_id: str, body: dict[str, Any]) -> Any:
    """Append a message, and have it answered if there is a responder. Returns an array of both, or their events."""
    refuse_unwritable([body])
    if not stream.is_answered({"body": body}):
        outcome = http.save_message(state().current_units(), conversation_id, body)
        return _saved([outcome.result], outcome.replayed)
    if stream.is_wanted():
        return stream.of_new_turn(conversation_id, "send", message=body)
    turn = http.ask(state().current_units(), conversation_id, "send", message=body, key=idempotency())
    saved = [each for each in (turn["question"], turn["answer"]) if each is not None]
    if not saved:
        raise errors.Conflict("The question was deleted, or could not be stored, before it was answered.")
    return _saved(saved, turn["replayed"])


def _saved(messages: list[Any], replayed: bool) -> Any:
    first = messages[0]
    location = url_for(
        f"{request.blueprint}.get_message", conversation_id=first["conversation_id"], message_id=first["id"]
    )
    if replayed:
        return messages, 200, {"Location": location, "Idempotency-Replayed": "true"}
    return messages, 201, {"Location": location}


def _etag(message: types.Message) -> str:
    digest = canonical.digest(message["id"], message["role"], message["content"])
    return f"{message['version']}-{canonical.checksum_text(digest)}"


def _tagged(message: types.Message) -> Any:
    return message, 200, {"ETag": f'"{_etag(message)}"'}


@routes.add(
    "GET",
    "/<conversation_id>/messages/<message_id>",
    query=http_schemas.Query,
    answers={200: types.Message, 304: "Not modified"},
)
def get_message(conversation_id: str, message_id: str, query: dict[str, Any]) -> Any:
    """Get one message."""
    message = current_conversations.get_message(conversation_id, message_id, **query)
    if responses.matches(request.headers.get("If-None-Match"), _etag(message)):
        return Response(status=304, headers={"ETag": f'"{_etag(message)}"'})
    return _tagged(message)


@routes.add(
    "PATCH",
    "/<conversation_id>/messages/<message_id>",
    body=http_schemas.MessagePatch,
    answers={200: types.Message},
    preconditions=True,
    if_match=True,
)
def update_message(conversation_id: str, message_id: str, body: dict[str, Any]) -> Any:
    """Edit a message."""
    with current_conversations.transaction():
        _check_match(conversation_id, message_id)
        edited = current_conversations.update_message(conversation_id, message_id, **body)
        refuse_unwritable([{"role": edited["role"]}])
        return _tagged(edited)


def _check_match(conversation_id: str, message_id: str) -> None:
    """Lock the conversation, and compare `If-Match` with the entity tags of the message and the conversation."""
    wanted = request.headers.get("If-Match")
    if wanted is None:
        return
    if not responses.is_entity_tags(wanted):
        raise errors.MalformedRequest("If-Match must be * or a list of quoted entity tags.")
    current = current_conversations.lock_conversation(conversation_id)
    message = current_conversations.get_message(conversation_id, message_id)
    if not responses.matches(wanted, _etag(message)) and not responses.matches(wanted, current["etag"]):
        raise errors.PreconditionFailed(current=current)


@routes.add("DELETE", "/<conversation_id>/messages/<message_id>", answers={200: types.Message}, if_match=True)
def delete_message(conversation_id: str, message_id: str) -> Any:
    """Delete a message permanently, and return it."""
    with current_conversations.transaction():
        _check_match(conversation_id, message_id)
        return current_conversations.delete_message(conversation_id, message_id)


@routes.add(
    "PUT",
    "/<conversation_id>/messages/<message_id>/feedback",
    body=http_schemas.FeedbackIn,
    answers={200: types.Message},
)
def rate_message(conversation_id: str, message_id: str, body: dict[str, Any]) -> Any:
    """Rate a message."""
    return _tagged(current_conversations.rate_message(conversation_id, message_id, **body))
