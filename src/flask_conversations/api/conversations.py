"""Conversations over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, request, url_for

from .. import errors
from ..identity.guest import forget_guest, guest_from_cookie
from ..proxies import current_conversations, state
from ..schemas import http_schemas, types
from ..schemas import messages as message_schema
from ..service import http
from . import responses
from .ai_sdk import chats
from .routing import Routes

routes = Routes()


@routes.add("GET", "", query=http_schemas.ListQuery, answers={200: http_schemas.ConversationPage})
def list_conversations(query: dict[str, Any]) -> Any:
    """List the user's conversations, a page at a time."""
    if query.pop("include", None) == "messages":
        return current_conversations.load_conversations(**query)
    return current_conversations.list_conversations(**query)


@routes.add(
    "POST",
    "",
    body=http_schemas.ConversationIn,
    answers={201: types.Conversation, 200: types.Conversation},
    limit="create",
    alternative=chats.CHAT,
)
def create_conversation(body: dict[str, Any]) -> Any:
    """Create a conversation."""
    messages = [message_schema.own_members(item) for item in body.pop("messages", ())]
    refuse_unwritable(messages)
    outcome = http.create_conversation(state().current_units(), **body, messages=messages)
    return with_etag(outcome.result, 200 if outcome.replayed else 201, location_of(outcome.result), outcome.replayed)


def refuse_unwritable(messages: list[dict[str, Any]]) -> None:
    """Raise `ValidationFailed` for a message with a role that only the host may write."""
    allowed = state().config.client_roles
    for item in messages:
        message_schema.refuse_unwritable(item, allowed)


def location_of(conversation: Mapping[str, Any]) -> dict[str, str]:
    return {"Location": url_for(f"{request.blueprint}.get_conversation", conversation_id=conversation["id"])}


def with_etag(
    conversation: Mapping[str, Any], status: int = 200, headers: dict[str, str] | None = None, replayed: bool = False
) -> Any:
    """A conversation with its `ETag` and `Idempotency-Replayed` headers."""
    extra = {"Idempotency-Replayed": "true"} if replayed else {}
    return conversation, status, {"ETag": f'"{conversation["etag"]}"', **(headers or {}), **extra}


@routes.add(
    "GET",
    "/<conversation_id>",
    query=http_schemas.ConversationQuery,
    answers={200: http_schemas.ConversationWithMessages, 304: "Not modified"},
)
def get_conversation(conversation_id: str, query: dict[str, Any]) -> Any:
    """Get a conversation with its newest messages."""
    conversation = current_conversations.get_conversation(conversation_id, min_version=query.get("min_version"))
    headers = {"ETag": f'"{conversation["etag"]}"'}
    if responses.matches(request.headers.get("If-None-Match"), conversation["etag"]):
        return Response(status=304, headers=headers)
    page = current_conversations.get_messages(
        conversation["id"],
        limit=query.get("limit", 50),
        before=query.get("before"),
        siblings=query.get("include") == "siblings",
    )
    return {**page, **conversation}, 200, headers


@routes.add(
    "PATCH",
    "/<conversation_id>",
    body=http_schemas.ConversationPatch,
    answers={200: types.Conversation},
    preconditions=True,
    if_match=True,
)
def update_conversation(conversation_id: str, body: dict[str, Any]) -> Any:
    """Change fields of a conversation."""
    expected = body.pop("expected_version", None)
    with current_conversations.transaction():
        matched = version_matched(conversation_id)
        changed = current_conversations.update_conversation(
            conversation_id, expected_version=expected if matched is None else matched, **body
        )
    return with_etag(changed)


def version_matched(conversation_id: str, *, trash: bool = False) -> int | None:
    """The version that `If-Match` names; None without the header. Raises `PreconditionFailed` if it is not the current one."""
    wanted = request.headers.get("If-Match")
    if wanted is None:
        return None
    if not responses.is_entity_tags(wanted):
        raise errors.MalformedRequest("If-Match must be * or a list of quoted entity tags.")
    current = current_conversations.lock_conversation(conversation_id, trash=trash)
    if not responses.matches(wanted, current["etag"]):
        raise errors.PreconditionFailed(current=current)
    return current["version"]


@routes.add(
    "PUT",
    "/<conversation_id>",
    body=http_schemas.Snapshot,
    answers={200: http_schemas.SavedSnapshot},
    preconditions=True,
    if_match=True,
)
def save_conversation(conversation_id: str, body: dict[str, Any]) -> Any:
    """Save a client's copy of a conversation, merged with the changes of other clients."""
    base, force = body.pop("base_version", None), body.pop("force_overwrite", False)
    with current_conversations.transaction():
        matched = version_matched(conversation_id)
        saved = http.save_snapshot(
            state().current_units(),
            {**body, "id": conversation_id},
            base_version=base if matched is None else matched,
            force_overwrite=force,
            refuse_conflicts=True,
            roles=state().config.client_roles,
        )
        conversation = saved["conversation"]
        page = current_conversations.get_messages(conversation["id"])
    return with_etag({**page, **conversation, "outcome": saved["outcome"], "conflicts": saved["conflicts"]})


@routes.add(
    "DELETE", "/<conversation_id>", query=http_schemas.DeleteQuery, answers={200: http_schemas.Deleted}, if_match=True
)
def delete_conversation(conversation_id: str, query: dict[str, Any]) -> Any:
    """Delete a conversation: into the trash, or permanently."""
    permanent = query.get("permanent", False)
    with current_conversations.transaction():
        version_matched(conversation_id, trash=permanent)
        if not current_conversations.delete_conversation(conversation_id, permanent=permanent):
            raise errors.ConversationNotFound
    return {"success": True, "id": conversation_id, "permanent": permanent or state().config.trash_days == 0}


@routes.add("POST", "/<conversation_id>/archive", body=http_schemas.Empty, answers={200: types.Conversation})
def archive_conversation(conversation_id: str, body: dict[str, Any]) -> Any:
    """Archive a conversation."""
    return with_etag(current_conversations.archive_conversation(conversation_id))


@routes.add("POST", "/<conversation_id>/unarchive", body=http_schemas.Empty, answers={200: types.Conversation})
def unarchive_conversation(conversation_id: str, body: dict[str, Any]) -> Any:
    """Make a conversation active again."""
    return with_etag(current_conversations.unarchive_conversation(conversation_id))


@routes.add("POST", "/<conversation_id>/resolve", body=http_schemas.Empty, answers={200: types.Conversation})
def resolve_conversation(conversation_id: str, body: dict[str, Any]) -> Any:
    """Mark a conversation as resolved."""
    return with_etag(current_conversations.resolve_conversation(conversation_id))


@routes.add("POST", "/<conversation_id>/restore", body=http_schemas.Empty, answers={200: types.Conversation})
def restore_conversation(conversation_id: str, body: dict[str, Any]) -> Any:
    """Restore a conversation from the trash."""
    return with_etag(current_conversations.restore_conversation(conversation_id))


@routes.add("POST", "/claim", body=http_schemas.Empty, answers={200: http_schemas.Claimed})
def claim_conversations(body: dict[str, Any]) -> Any:
    """Move the conversations of this browser's guest to the user who has logged in."""
    guest = guest_from_cookie()
    claimed = current_conversations.claim(guest) if guest else 0
    if guest:
        forget_guest()
    return {"claimed": claimed}
