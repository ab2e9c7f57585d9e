"""Branches and forks over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .. import errors
from ..proxies import current_conversations
from ..schemas import http_schemas, types
from .conversations import location_of, version_matched, with_etag
from .routing import Routes

routes = Routes()

T = TypeVar("T")


@routes.add("GET", "/<conversation_id>/branches", query=http_schemas.Query, answers={200: types.BranchList})
def list_branches(conversation_id: str, query: dict[str, Any]) -> Any:
    """List the branches of a conversation."""
    return current_conversations.branches.list(conversation_id, **query)


@routes.add("POST", "/<conversation_id>/branches", body=http_schemas.BranchIn, answers={201: types.Branch})
def create_branch(conversation_id: str, body: dict[str, Any]) -> Any:
    """Name the path that ends with a message."""
    return current_conversations.branches.create(conversation_id, **body), 201, {}


@routes.add(
    "POST",
    "/<conversation_id>/branches/<branch>/switch",
    body=http_schemas.Empty,
    answers={200: types.Conversation},
    if_match=True,
)
def switch_branch(conversation_id: str, branch: str, body: dict[str, Any]) -> Any:
    """Make a branch the active one, or show the newest path through a message."""
    return with_etag(_if_match(conversation_id, lambda: current_conversations.branches.switch(conversation_id, branch)))


def _if_match(conversation_id: str, change: Callable[[], T]) -> T:
    """Call *change* if `If-Match` names the current version. An error of *change*, 404 for example, takes precedence."""
    with current_conversations.transaction():
        failure = None
        try:
            version_matched(conversation_id)
        except errors.PreconditionFailed as error:
            failure = error
        done = change()
        if failure is not None:
            raise failure
        return done


@routes.add("DELETE", "/<conversation_id>/branches/<branch>", answers={200: http_schemas.BranchDeleted}, if_match=True)
def delete_branch(conversation_id: str, branch: str) -> Any:
    """Delete the name of a branch; its messages stay."""
    deleted = _if_match(conversation_id, lambda: current_conversations.branches.delete(conversation_id, branch))
    return {"success": True, "conversation_id": deleted["conversation_id"], "name": deleted["name"]}


@routes.add(
    "POST", "/<conversation_id>/fork", body=http_schemas.ForkIn, answers={201: types.Conversation}, limit="create"
)
def fork_conversation(conversation_id: str, body: dict[str, Any]) -> Any:
    """Create a conversation with copies of the messages up to one."""
    forked = current_conversations.fork_conversation(conversation_id, **body)
    return with_etag(forked, 201, location_of(forked))
