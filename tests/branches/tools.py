"""What tests of branches share: conversations as plain trees, and what a page of each must be."""

from __future__ import annotations

from typing import Any

from ..service.tools import sql


def said(*texts: str) -> list[dict[str, Any]]:
    """Messages of a user, one for each text."""
    return [{"role": "user", "content": text} for text in texts]


def texts(page: dict[str, Any]) -> list[Any]:
    """What the messages of a page say."""
    return [message["content"] for message in page["messages"]]


def ids(service: Any, conversation_id: str, **options: Any) -> dict[str, str]:
    """The id of each message of a page by what it says."""
    return {
        one["content"]: one["id"] for one in service.get_messages(conversation_id, limit=100, **options)["messages"]
    }


def whole(service: Any, conversation_id: str, *, branch: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Every message of a branch, oldest first, read page by page from its end."""
    found: list[dict[str, Any]] = []
    place = None
    while True:
        page = service.get_messages(conversation_id, branch=branch, limit=limit, before=place)
        found = page["messages"] + found
        place = page["next_cursor"]
        assert page["has_more"] == (place is not None)
        if place is None:
            return found


def forwards(
    service: Any, conversation_id: str, *, branch: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """The same from its beginning."""
    found: list[dict[str, Any]] = []
    place: Any = 0
    while place is not None:
        page = service.get_messages(conversation_id, branch=branch, limit=limit, after=place)
        found += page["messages"]
        place = page["next_cursor"]
    return found


def named(service: Any, conversation_id: str) -> dict[str, Any]:
    """The tips of all branches by name."""
    return {one["name"]: one["head_id"] for one in service.branches.list(conversation_id)["branches"]}


def active(service: Any, conversation_id: str) -> str:
    (found,) = [one["name"] for one in service.branches.list(conversation_id)["branches"] if one["active"]]
    return str(found)


def branch_rows(app: Any) -> int:
    """How many rows of branches there are."""
    return int(sql(app, "SELECT count(*) FROM conversation_branches")[0][0])
