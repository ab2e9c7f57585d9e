"""The tables, made by the package's migrations, and the conversations that are measured."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from flask_conversations import migrations
from flask_conversations.ids import new_id

from .ours import make_app

START = dt.datetime(2025, 1, 1, tzinfo=dt.timezone.utc)
TEXT = ("The quick brown fox jumps over the lazy dog, and " * 21)[:1024]
"""A message of 1 KB."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much there is."""

    messages: int = 50_000
    """Messages in the long conversation."""
    empty: int = 1_000
    """Conversations to append a first message to."""
    chats: int = 60
    """Conversations with 15 messages, one for each program in each case with a cache: nobody writes behind its back."""
    users: tuple[int, ...] = (20, 1_000, 20_000)
    """Conversations of the users whose list is read."""


@dataclasses.dataclass(frozen=True)
class Data:
    """What was put into the database."""

    user: str
    short: str
    """A conversation with 15 messages."""
    long: str
    """A conversation with very many messages, which nobody appends to."""
    growing: str
    """Another one, for appends."""
    empty: list[str]
    chats: list[str]
    """Conversations with 15 messages; whoever takes one takes it away."""
    owners: dict[int, str]
    """Users by how many conversations they have."""
    messages: int
    """Messages in the long conversation and in the growing one, to begin with."""

    def empty_one(self, number: int) -> str:
        return self.empty[number % len(self.empty)]


def fill(url: str, sizes: Sizes) -> Data:
    """Make the tables at *url* and put everything in."""
    app, extension = make_app(url)
    with app.app_context():
        engine = extension.db.engine
        with engine.begin() as connection:
            migrations.migrate(connection, extension.models, migrations.HEAD, up=True)
        with engine.begin() as connection:
            data = _filled(connection, extension.models, sizes)
        _settle(engine)
        engine.dispose()
    return data


def _filled(connection: sa.Connection, models: Any, sizes: Sizes) -> Data:
    lengths = {"short": 15, "long": sizes.messages, "growing": sizes.messages}
    named = {name: new_id() for name in lengths}
    empty = [new_id() for _ in range(sizes.empty)]
    chats = [new_id() for _ in range(sizes.chats)]
    owners = {count: f"owner-of-{count}" for count in sizes.users}
    rows = [_conversation(named[name], "ada", length) for name, length in lengths.items()]
    rows += [_conversation(one, "ada", 0) for one in empty]
    rows += [_conversation(one, "ada", 15) for one in chats]
    rows += [_conversation(new_id(), user, place) for count, user in owners.items() for place in range(count)]
    _insert(connection, models.Conversation.__table__, rows)
    for name, length in lengths.items():
        _insert(connection, models.Message.__table__, _messages(named[name], "ada", length))
    for one in chats:
        _insert(connection, models.Message.__table__, _messages(one, "ada", 15))
    return Data("ada", **named, empty=empty, chats=chats, owners=owners, messages=sizes.messages)


def _conversation(id: str, user: str, length: int) -> dict[str, Any]:
    at = START + dt.timedelta(seconds=length)
    return {
        "id": id,
        "org_id": "",
        "user_id": user,
        "title": f"Conversation {length}",
        "title_source": "user",
        "preview": TEXT[:160],
        "last_seq": length,
        "message_count": length,
        "created_at": START,
        "updated_at": at,
        "last_message_at": at,
        "last_activity_at": at,
    }


def _messages(conversation_id: str, user: str, count: int) -> Iterator[dict[str, Any]]:
    parent = None
    for seq in range(1, count + 1):
        at = START + dt.timedelta(seconds=seq)
        row = {
            "conversation_id": conversation_id,
            "seq": seq,
            "id": new_id(),
            "org_id": "",
            "user_id": user,
            "parent_id": parent,
            "role": "user" if seq % 2 else "assistant",
            "content": TEXT,
            "created_at": at,
            "updated_at": at,
        }
        parent = row["id"]
        yield row


def _insert(connection: sa.Connection, table: sa.Table, rows: Any) -> None:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == 1_000:
            connection.execute(sa.insert(table), batch)
            batch = []
    if batch:
        connection.execute(sa.insert(table), batch)


def _settle(engine: sa.Engine) -> None:
    """Let the planner know the tables, so that this does not happen by itself in the middle of a measurement."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE" if engine.dialect.name == "sqlite" else "VACUUM ANALYZE")
        if engine.dialect.name == "postgresql":
            for table in ("conversations", "conversation_messages"):
                connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
