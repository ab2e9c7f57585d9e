"""The same chat store written by hand on SQLAlchemy Core: tables, statements built once, `engine.begin()`."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from .programs import now

metadata = sa.MetaData()
ID = sa.Uuid(as_uuid=False)
TIME = sa.DateTime(timezone=True)

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("org_id", sa.String(255)),
    sa.Column("user_id", sa.String(255)),
    sa.Column("title", sa.String(255)),
    sa.Column("preview", sa.Text),
    sa.Column("status", sa.String(16)),
    sa.Column("starred", sa.Boolean),
    sa.Column("tags", sa.JSON),
    sa.Column("temporary", sa.Boolean),
    sa.Column("version", sa.BigInteger),
    sa.Column("last_seq", sa.BigInteger),
    sa.Column("message_count", sa.BigInteger),
    sa.Column("created_at", TIME),
    sa.Column("updated_at", TIME),
    sa.Column("last_message_at", TIME),
    sa.Column("last_activity_at", TIME),
)

messages = sa.Table(
    "conversation_messages",
    metadata,
    sa.Column("conversation_id", ID, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("id", ID),
    sa.Column("org_id", sa.String(255)),
    sa.Column("user_id", sa.String(255)),
    sa.Column("version", sa.BigInteger),
    sa.Column("digest", sa.BigInteger),
    sa.Column("role", sa.String(16)),
    sa.Column("type", sa.String(32)),
    sa.Column("content", sa.Text),
    sa.Column("content_is_parts", sa.Boolean),
    sa.Column("status", sa.String(16)),
    sa.Column("metadata", sa.JSON),
    sa.Column("created_at", TIME),
    sa.Column("updated_at", TIME),
    sa.Column("deleted_at", TIME),
)

c, m = conversations.c, messages.c

mine = sa.and_(
    c.id == sa.bindparam("conversation"),
    c.user_id == sa.bindparam("user"),
    c.org_id == "",
    c.status != "deleted",
)
at = sa.bindparam("at", type_=TIME)

ADVANCE = (
    sa.update(conversations)
    .where(mine)
    .values(
        last_seq=c.last_seq + 1,
        message_count=c.message_count + 1,
        version=c.version + 1,
        preview=sa.bindparam("new_preview"),
        updated_at=at,
        last_message_at=at,
        last_activity_at=at,
    )
    .returning(c.last_seq, c.version)
)
INSERT = sa.insert(messages)

_of_mine = messages.join(conversations, m.conversation_id == c.id)
_newest_first = sa.select(m.role, m.content).select_from(_of_mine).where(mine, m.deleted_at.is_(None))
NEWEST = _newest_first.order_by(m.seq.desc()).limit(sa.bindparam("limit"))
PAGE = (
    sa.select(m.id, m.seq, m.role, m.content, m.status, m.metadata, m.created_at)
    .select_from(_of_mine)
    .where(mine, m.deleted_at.is_(None))
    .order_by(m.seq.desc())
    .limit(sa.bindparam("limit"))
)
PAGE_BEFORE = PAGE.where(m.seq < sa.bindparam("before"))

LIST = (
    sa.select(
        c.id,
        c.title,
        c.preview,
        c.status,
        c.starred,
        c.tags,
        c.message_count,
        c.version,
        c.created_at,
        c.updated_at,
        c.last_message_at,
    )
    .where(c.user_id == sa.bindparam("user"), c.org_id == "", c.status == "active", c.temporary.is_(sa.false()))
    .order_by(c.last_activity_at.desc(), c.id.desc())
    .limit(sa.bindparam("limit"))
)


class Core:
    """Two statements for an append, one for everything else."""

    name = "SQLAlchemy Core"

    def __init__(self, url: str) -> None:
        pool = {"pool_size": 10} if url.startswith("postgresql") else {}
        self.engine = sa.create_engine(url, **pool)
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine, "connect", _write_ahead)

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Core]:
        yield self

    def append(self, user: str, conversation_id: str, role: str, content: str) -> dict[str, Any]:
        message_id, moment = str(uuid.uuid4()), now()
        with self.engine.begin() as connection:
            step = connection.execute(
                ADVANCE, {"conversation": conversation_id, "user": user, "new_preview": content[:160], "at": moment}
            ).first()
            if step is None:
                raise LookupError(conversation_id)
            connection.execute(
                INSERT,
                {
                    "conversation_id": conversation_id,
                    "seq": step.last_seq,
                    "id": message_id,
                    "org_id": "",
                    "user_id": user,
                    "version": step.version,
                    "digest": 0,
                    "role": role,
                    "type": "text",
                    "content": content,
                    "content_is_parts": False,
                    "status": "delivered",
                    "created_at": moment,
                    "updated_at": moment,
                },
            )
        return {"id": message_id, "seq": step.last_seq, "role": role, "content": content, "at": moment.isoformat()}

    def newest(self, user: str, conversation_id: str, limit: int) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            rows = connection.execute(NEWEST, {"conversation": conversation_id, "user": user, "limit": limit}).all()
        return [{"role": role, "content": content} for role, content in reversed(rows)]

    def page(self, user: str, conversation_id: str, limit: int, before: Any) -> list[dict[str, Any]]:
        parameters = {"conversation": conversation_id, "user": user, "limit": limit, "before": before}
        with self.engine.connect() as connection:
            rows = connection.execute(PAGE if before is None else PAGE_BEFORE, parameters).mappings().all()
        return [{**row, "created_at": row["created_at"].isoformat()} for row in reversed(rows)]

    def place(self, user: str, conversation_id: str, seq: int) -> int:
        return seq

    def conversations(self, user: str, limit: int) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            rows = connection.execute(LIST, {"user": user, "limit": limit}).mappings().all()
        return [_shown(row) for row in rows]

    def close(self) -> None:
        self.engine.dispose()


def _shown(row: Any) -> dict[str, Any]:
    times = {name: row[name] and row[name].isoformat() for name in ("created_at", "updated_at", "last_message_at")}
    return {**row, **times}


def _write_ahead(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA busy_timeout = 5000")
