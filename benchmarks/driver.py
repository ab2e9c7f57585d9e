"""The same chat store written by hand on the driver: psycopg 3 or sqlite3, one open connection, SQL as text."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import sqlite3
import uuid
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from .programs import Program, now

_OF_MINE = """
    FROM conversation_messages m JOIN conversations c ON c.id = m.conversation_id
    WHERE c.id = :conversation AND c.user_id = :user AND c.org_id = '' AND c.status <> 'deleted'
      AND m.deleted_at IS NULL
"""
_PAGE = f"SELECT m.id, m.seq, m.role, m.content, m.status, m.metadata, m.created_at {_OF_MINE}"

SQL = {
    "advance": """
        UPDATE conversations
        SET last_seq = last_seq + 1, message_count = message_count + 1, version = version + 1, preview = :preview,
            updated_at = :at, last_message_at = :at, last_activity_at = :at
        WHERE id = :conversation AND user_id = :user AND org_id = '' AND status <> 'deleted'
        RETURNING last_seq, version
    """,
    "insert": """
        INSERT INTO conversation_messages (conversation_id, seq, id, org_id, user_id, version, digest, role, type,
                                           content, content_is_parts, status, created_at, updated_at)
        VALUES (:conversation, :seq, :id, '', :user, :version, 0, :role, 'text',
                :content, false, 'delivered', :at, :at)
    """,
    "newest": f"SELECT m.role, m.content {_OF_MINE} ORDER BY m.seq DESC LIMIT :limit",
    "page": f"{_PAGE} ORDER BY m.seq DESC LIMIT :limit",
    "page_before": f"{_PAGE} AND m.seq < :before ORDER BY m.seq DESC LIMIT :limit",
    "list": """
        SELECT id, title, preview, status, starred, tags, message_count, version, created_at, updated_at,
               last_message_at
        FROM conversations
        WHERE user_id = :user AND org_id = '' AND status = 'active' AND NOT temporary
        ORDER BY last_activity_at DESC, id DESC
        LIMIT :limit
    """,
}
PSYCOPG_SQL = {name: re.sub(r":(\w+)", r"%(\1)s", text) for name, text in SQL.items()}

MESSAGE = ("id", "seq", "role", "content", "status", "metadata", "created_at")
CONVERSATION = (
    *("id", "title", "preview", "status", "starred", "tags", "message_count", "version"),
    *("created_at", "updated_at", "last_message_at"),
)


def connect(url: str) -> Program:
    """The program for the database at *url*."""
    return Sqlite(url) if url.startswith("sqlite") else Psycopg(url)


class Psycopg:
    """psycopg 3, which prepares what it runs often."""

    name = "psycopg 3"

    def __init__(self, url: str) -> None:
        import psycopg

        self.url = url
        self.connection = psycopg.connect(_conninfo(url), autocommit=True)

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Psycopg]:
        own = Psycopg(self.url)
        try:
            yield own
        finally:
            own.close()

    def append(self, user: str, conversation_id: str, role: str, content: str) -> dict[str, Any]:
        message_id, moment = uuid.uuid4(), now()
        row = {"conversation": conversation_id, "user": user, "preview": content[:160], "at": moment}
        with self.connection.transaction():
            step = self.connection.execute(PSYCOPG_SQL["advance"], row).fetchone()
            if step is None:
                raise LookupError(conversation_id)
            seq, version = step
            row.update(seq=seq, version=version, id=message_id, role=role, content=content)
            self.connection.execute(PSYCOPG_SQL["insert"], row)
        return {"id": str(message_id), "seq": seq, "role": role, "content": content, "at": moment.isoformat()}

    def newest(self, user: str, conversation_id: str, limit: int) -> list[dict[str, Any]]:
        rows = self.connection.execute(
            PSYCOPG_SQL["newest"], {"conversation": conversation_id, "user": user, "limit": limit}
        )
        return [{"role": role, "content": content} for role, content in reversed(rows.fetchall())]

    def page(self, user: str, conversation_id: str, limit: int, before: Any) -> list[dict[str, Any]]:
        parameters = {"conversation": conversation_id, "user": user, "limit": limit, "before": before}
        rows = self.connection.execute(PSYCOPG_SQL["page" if before is None else "page_before"], parameters).fetchall()
        return [_shown(dict(zip(MESSAGE, row, strict=True))) for row in reversed(rows)]

    def place(self, user: str, conversation_id: str, seq: int) -> int:
        return seq

    def conversations(self, user: str, limit: int) -> list[dict[str, Any]]:
        rows = self.connection.execute(PSYCOPG_SQL["list"], {"user": user, "limit": limit}).fetchall()
        return [_shown(dict(zip(CONVERSATION, row, strict=True))) for row in rows]

    def close(self) -> None:
        self.connection.close()


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    found["id"] = str(found["id"])
    for name in ("created_at", "updated_at", "last_message_at"):
        if found.get(name) is not None:
            found[name] = found[name].isoformat()
    return found


def _conninfo(url: str) -> str:
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


class Sqlite:
    """sqlite3 of the standard library, with transactions of our own."""

    name = "sqlite3"

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = sqlite3.connect(str(sa.make_url(url).database), isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA busy_timeout = 5000")

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Sqlite]:
        own = Sqlite(self.url)
        try:
            yield own
        finally:
            own.close()

    def append(self, user: str, conversation_id: str, role: str, content: str) -> dict[str, Any]:
        message_id, moment = uuid.uuid4(), now()
        row: dict[str, Any] = {"conversation": _hex(conversation_id), "user": user, "at": _stored(moment)}
        row.update(preview=content[:160])
        with self._transaction():
            step = self.connection.execute(SQL["advance"], row).fetchone()
            if step is None:
                raise LookupError(conversation_id)
            seq, version = step
            row.update(seq=seq, version=version, id=message_id.hex, role=role, content=content)
            self.connection.execute(SQL["insert"], row)
        return {"id": str(message_id), "seq": seq, "role": role, "content": content, "at": moment.isoformat()}

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def newest(self, user: str, conversation_id: str, limit: int) -> list[dict[str, Any]]:
        parameters = {"conversation": _hex(conversation_id), "user": user, "limit": limit}
        rows = self.connection.execute(SQL["newest"], parameters).fetchall()
        return [{"role": role, "content": content} for role, content in reversed(rows)]

    def page(self, user: str, conversation_id: str, limit: int, before: Any) -> list[dict[str, Any]]:
        parameters = {"conversation": _hex(conversation_id), "user": user, "limit": limit, "before": before}
        rows = self.connection.execute(SQL["page" if before is None else "page_before"], parameters).fetchall()
        return [_decoded(dict(zip(MESSAGE, row, strict=True)), "metadata") for row in reversed(rows)]

    def place(self, user: str, conversation_id: str, seq: int) -> int:
        return seq

    def conversations(self, user: str, limit: int) -> list[dict[str, Any]]:
        rows = self.connection.execute(SQL["list"], {"user": user, "limit": limit}).fetchall()
        return [_decoded(dict(zip(CONVERSATION, row, strict=True)), "tags") for row in rows]

    def close(self) -> None:
        self.connection.close()


def _hex(conversation_id: str) -> str:
    return conversation_id.replace("-", "")


def _stored(moment: dt.datetime) -> str:
    """A time as the tables hold it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _decoded(found: dict[str, Any], name: str) -> dict[str, Any]:
    """A row as JSON shows it."""
    found["id"] = str(uuid.UUID(found["id"]))
    found[name] = json.loads(found[name]) if found[name] else None
    for time in ("created_at", "updated_at", "last_message_at"):
        if found.get(time):
            found[time] = found[time].replace(" ", "T") + "+00:00"
    return found
