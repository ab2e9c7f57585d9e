"""What tests of the service share: reading a whole conversation, and the facts that must hold of every one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_conversations.errors import NotFound
from flask_conversations.schemas.canonical import checksum

NEVER = "018f0000-0000-7000-8000-000000000000"
"""An id that nothing has."""


def everything(service: Any, conversation_id: str, limit: int = 100) -> list[dict[str, Any]]:
    """Every message of a conversation, oldest first, read page by page."""
    found: list[dict[str, Any]] = []
    place = None
    while True:
        page = service.get_messages(conversation_id, limit=limit, before=place)
        found = page["messages"] + found
        place = page["next_cursor"]
        assert page["has_more"] == (place is not None)
        if place is None:
            return found


def contents(service: Any, conversation_id: str) -> list[Any]:
    return [message["content"] for message in everything(service, conversation_id)]


def check(service: Any, conversation_id: str) -> dict[str, Any]:
    """The counters of a conversation say exactly what its messages say; the conversation."""
    conversation = service.get_conversation(conversation_id)
    messages = everything(service, conversation_id)
    assert conversation["message_count"] == len(messages)
    assert conversation["checksum"] == checksum(messages)
    assert [m["seq"] for m in messages] == sorted({m["seq"] for m in messages})
    assert all(m["version"] <= conversation["version"] for m in messages)
    parents = [None, *(m["id"] for m in messages)]
    assert [m["parent_id"] for m in messages] == parents[:-1]
    if messages:
        assert conversation["last_message_at"] >= messages[-1]["created_at"]
        assert conversation["last_message_at"] in [m["created_at"] for m in messages]
        assert (conversation["preview"] == "") == (not text(messages[-1]).strip())
        assert " ".join(text(messages[-1]).split()).startswith(conversation["preview"])
    else:
        assert (conversation["preview"], conversation["last_message_at"]) == (None, None)
    return conversation


def text(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def sequence(app: Flask, conversation_id: str) -> list[int]:
    """The seqs that are stored, tombstones included."""
    message = app.conversations.models.Message  # type: ignore[attr-defined]
    with app.app_context():
        found = app.db.session.scalars(  # type: ignore[attr-defined]
            sa.select(message.seq).where(message.conversation_id == conversation_id).order_by(message.seq)
        )
        return list(found)


def rows(app: Flask) -> dict[str, int]:
    """How many rows each of our tables holds, the schema's version left out."""
    with app.app_context():
        tables = app.conversations.models.tables  # type: ignore[attr-defined]
        return {
            name: app.db.session.scalar(sa.select(sa.func.count()).select_from(table))  # type: ignore[attr-defined]
            for name, table in tables.items()
            if name != "conversation_schema"
        }


def sql(app: Flask, statement: str, **parameters: Any) -> list[Any]:
    """Run raw SQL, the way something that is not us would."""
    with app.app_context(), app.db.engine.begin() as connection:  # type: ignore[attr-defined]
        result = connection.execute(sa.text(statement), parameters)
        return list(result) if result.returns_rows else []


def in_use(app: Flask) -> int:
    """Connections that are checked out of the app's pool."""
    with app.app_context():
        return app.db.engine.pool.checkedout()  # type: ignore[attr-defined,no-any-return]


def check_invisible(bob: Any, conversation_id: str) -> None:
    """Bob does not see the conversation."""
    assert not bob.conversation_exists(conversation_id)
    with pytest.raises(NotFound):
        bob.get_messages(conversation_id)


def walk(page_of: Any, noun: str) -> list[Any]:
    """Everything that cursors lead to: `page_of(cursor)` is one page."""
    found: list[Any] = []
    cursor = None
    for _ in itertools.count():
        page = page_of(cursor)
        found += page[noun]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
    raise AssertionError


class Failure(Exception):
    """What a test breaks off with."""


@contextmanager
def failing(block: AbstractContextManager[Any]) -> Iterator[None]:
    """*block*, broken off by an error at its end."""
    try:
        with block:
            yield
            raise Failure
    except Failure:
        return
