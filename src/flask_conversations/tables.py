"""The registry of our tables: columns and indexes, owner columns, and whether rows are deleted with their conversation."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.sql.naming import conv

from .column_types import JSONValue, UTCDateTime, UUIDString
from .ids import new_id, new_rev, now
from .schemas.fields import MAX_TITLE_LENGTH
from .schemas.rules import MAX_BRANCH_NAME, MAX_CLIENT_ID, MAX_LABEL

CONVERSATIONS = "conversations"
MESSAGES = "conversation_messages"
TAGS = "conversation_tags"
BRANCHES = "conversation_branches"
TURNS = "conversation_turns"
IDEMPOTENCY = "conversation_idempotency"
QUERY_LOG = "conversation_query_log"
VERSION = "conversation_schema"

MAIN = "main"
"""The branch that every conversation has from the start."""
WAITING, PROCESSING, STREAMING, AWAITING = "waiting", "processing", "streaming", "awaiting_approval"
COMPLETED, FAILED, CANCELLED, INTERRUPTED = "completed", "failed", "cancelled", "interrupted"
ACTIVE_STATES = (PROCESSING, STREAMING, AWAITING)
"""States of a turn in progress: a conversation has at most one such turn."""
LIVE_STATES = (WAITING, *ACTIVE_STATES)
"""States of a turn that has not ended."""
NO_ORG = ""
"""Stored for an identity without organisation, since two NULLs are different to a unique key."""


@dataclasses.dataclass(frozen=True)
class Names:
    """The names that a host may choose: prefix, schema, and foreign keys to its own users and organisations."""

    prefix: str = ""
    schema: str | None = None
    user_foreign_key: str | None = None
    org_foreign_key: str | None = None

    def table(self, name: str) -> str:
        return self.prefix + name

    def object(self, kind: str, table: str, what: str) -> conv:
        """The name of an index or constraint, out of reach of the host's naming convention."""
        return conv(f"{kind}_{self.prefix}{table}_{what}")


def _arguments(cls: Any, table: str, *items: sa.schema.SchemaItem) -> tuple[Any, ...]:
    names: Names = cls.__names__
    return (*items, {"schema": names.schema} if names.schema else {})


def _owner_column(foreign_key: str | None, name: conv, **kwargs: Any) -> Mapped[str]:
    keys = [sa.ForeignKey(foreign_key, ondelete="CASCADE", name=name)] if foreign_key else []
    return mapped_column(sa.String(255), *keys, nullable=False, **kwargs)


class ConversationMixin:
    """One conversation of one owner. A host may subclass it with columns of its own."""

    __names__: Names

    id: Mapped[str] = mapped_column(UUIDString, primary_key=True, default=new_id)
    client_id: Mapped[str | None] = mapped_column(sa.String(MAX_CLIENT_ID))
    title: Mapped[str | None] = mapped_column(sa.String(MAX_TITLE_LENGTH))
    title_source: Mapped[str] = mapped_column(sa.String(8), nullable=False, default="default")
    preview: Mapped[str | None] = mapped_column(sa.Text)
    status: Mapped[str] = mapped_column(sa.String(16), nullable=False, default="active")
    starred: Mapped[bool] = mapped_column(sa.Boolean, nullable=False, default=False)
    folder: Mapped[str | None] = mapped_column(sa.String(MAX_LABEL))
    tags: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    context_type: Mapped[str | None] = mapped_column(sa.String(MAX_LABEL))
    context_id: Mapped[str | None] = mapped_column(sa.String(MAX_LABEL))
    page_context: Mapped[str | None] = mapped_column(sa.Text)
    meta: Mapped[Any] = mapped_column("metadata", JSONValue, nullable=True)
    temporary: Mapped[bool] = mapped_column(sa.Boolean, nullable=False, default=False)

    version: Mapped[int] = mapped_column(sa.BigInteger, nullable=False, default=1)
    field_versions: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    rev: Mapped[int] = mapped_column(sa.BigInteger, nullable=False, default=new_rev)
    last_seq: Mapped[int] = mapped_column(sa.BigInteger, nullable=False, default=0)
    message_count: Mapped[int] = mapped_column(sa.BigInteger, nullable=False, default=0)
    checksum: Mapped[int] = mapped_column(sa.BigInteger, nullable=False, default=0)
    head_id: Mapped[str | None] = mapped_column(UUIDString)
    # an append moves the head and must learn the old one from the same statement: RETURNING shows new values only
    previous_head_id: Mapped[str | None] = mapped_column(UUIDString)
    branched: Mapped[bool] = mapped_column(sa.Boolean, nullable=False, default=False)
    branch: Mapped[str] = mapped_column(sa.String(MAX_BRANCH_NAME), nullable=False, default=MAIN)

    created_at: Mapped[dt.datetime] = mapped_column(UTCDateTime, nullable=False, default=now)
    updated_at: Mapped[dt.datetime] = mapped_column(UTCDateTime, nullable=False, default=now)
    last_message_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime)
    last_activity_at: Mapped[dt.datetime] = mapped_column(UTCDateTime, nullable=False, default=now)
    archived_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime)
    resolved_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime)
    deleted_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime)

    @declared_attr
    def org_id(cls) -> Mapped[str]:
        names: Names = cls.__names__
        return _owner_column(names.org_foreign_key, names.object("fk", CONVERSATIONS, "org"))

    @declared_attr
    def user_id(cls) -> Mapped[str]:
        names: Names = cls.__names__
        return _owner_column(names.user_foreign_key, names.object("fk", CONVERSATIONS, "user"))

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return cls.__names__.table(CONVERSATIONS)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        name = cls.__names__.object
        return _arguments(
            cls,
            CONVERSATIONS,
            sa.UniqueConstraint("org_id", "user_id", "client_id", name=name("uq", CONVERSATIONS, "client_id")),
            sa.Index(name("ix", CONVERSATIONS, "activity"), "user_id", "org_id", "status", "last_activity_at", "id"),
            sa.Index(name("ix", CONVERSATIONS, "updated"), "user_id", "org_id", "updated_at", "id"),
            sa.Index(name("ix", CONVERSATIONS, "status"), "status", "deleted_at"),
            sa.Index(name("ix", CONVERSATIONS, "last_message_at"), "last_message_at"),
        )


class MessageMixin:
    """One message. Its key starts with the conversation, so that the table can be partitioned or distributed by it."""

    __names__: Names
    __conversation_key__: sa.Column[Any]

    seq: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(UUIDString, nullable=False, default=new_id)
    org_id: Mapped[str] = mapped_column(sa.String(255), nullable=False)
    user_id: Mapped[str] = mapped_column(sa.String(255), nullable=False)
    client_id: Mapped[str | None] = mapped_column(sa.String(MAX_CLIENT_ID))
    fingerprint: Mapped[str | None] = mapped_column(sa.String(64))
    parent_id: Mapped[str | None] = mapped_column(UUIDString)
    version: Mapped[int] = mapped_column(sa.BigInteger, nullable=False, default=1)
    digest: Mapped[int] = mapped_column(sa.BigInteger, nullable=False, default=0)

    role: Mapped[str] = mapped_column(sa.String(16), nullable=False)
    type: Mapped[str] = mapped_column(sa.String(32), nullable=False, default="text")
    content: Mapped[str] = mapped_column(sa.Text, nullable=False)
    content_is_parts: Mapped[bool] = mapped_column(sa.Boolean, nullable=False, default=False)
    parts: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    raw: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    status: Mapped[str] = mapped_column(sa.String(16), nullable=False, default="delivered")

    action_type: Mapped[str | None] = mapped_column(sa.String(MAX_LABEL))
    action_params: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    action_result: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    action_status: Mapped[str | None] = mapped_column(sa.String(MAX_LABEL))
    component_type: Mapped[str | None] = mapped_column(sa.String(MAX_LABEL))
    component_data: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    attachments: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    contexts: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    meta: Mapped[Any] = mapped_column("metadata", JSONValue, nullable=True)

    model: Mapped[str | None] = mapped_column(sa.String(MAX_LABEL))
    tokens_used: Mapped[int | None] = mapped_column(sa.BigInteger)
    usage: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    latency_ms: Mapped[float | None] = mapped_column(sa.Float)

    rating: Mapped[str | None] = mapped_column(sa.String(16))
    rating_reason: Mapped[str | None] = mapped_column(sa.String(MAX_LABEL))
    rating_comment: Mapped[str | None] = mapped_column(sa.Text)

    created_at: Mapped[dt.datetime] = mapped_column(UTCDateTime, nullable=False, default=now)
    updated_at: Mapped[dt.datetime] = mapped_column(UTCDateTime, nullable=False, default=now)
    edited_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime)
    deleted_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime)

    @declared_attr
    def conversation_id(cls) -> Mapped[str]:
        return _child_key(cls, MESSAGES)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return cls.__names__.table(MESSAGES)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        name = cls.__names__.object
        with_client_id = sa.text("client_id IS NOT NULL")
        return _arguments(
            cls,
            MESSAGES,
            sa.UniqueConstraint("conversation_id", "id", name=name("uq", MESSAGES, "id")),
            sa.Index(
                name("uq", MESSAGES, "client_id"),
                "conversation_id",
                "client_id",
                unique=True,
                postgresql_where=with_client_id,
                sqlite_where=with_client_id,
            ),
            sa.Index(name("ix", MESSAGES, "created"), "conversation_id", "created_at"),
            sa.Index(name("ix", MESSAGES, "created_at"), "created_at"),
            sa.Index(name("ix", MESSAGES, "role"), "role"),
            sa.Index(name("ix", MESSAGES, "type"), "type"),
        )


class TagMixin:
    """One tag of one conversation, beside the JSON copy on the conversation, so that a filter by tag uses an index."""

    __names__: Names
    __conversation_key__: sa.Column[Any]

    user_id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    tag: Mapped[str] = mapped_column(sa.String(64), primary_key=True)

    @declared_attr
    def conversation_id(cls) -> Mapped[str]:
        key = cls.__names__.object("fk", TAGS, "conversation")
        return mapped_column(
            UUIDString, sa.ForeignKey(cls.__conversation_key__, ondelete="CASCADE", name=key), primary_key=True
        )

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return cls.__names__.table(TAGS)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        name = cls.__names__.object
        return _arguments(cls, TAGS, sa.Index(name("ix", TAGS, "conversation"), "conversation_id"))


class BranchMixin:
    """The tip of a branch that is not the active one; that of the active one is `conversations.head_id`."""

    __names__: Names
    __conversation_key__: sa.Column[Any]

    name: Mapped[str] = mapped_column(sa.String(MAX_BRANCH_NAME), primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.String(255), nullable=False)
    user_id: Mapped[str] = mapped_column(sa.String(255), nullable=False)
    head_id: Mapped[str | None] = mapped_column(UUIDString)
    created_at: Mapped[dt.datetime] = mapped_column(UTCDateTime, nullable=False, default=now)

    @declared_attr
    def conversation_id(cls) -> Mapped[str]:
        return _child_key(cls, BRANCHES)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return cls.__names__.table(BRANCHES)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        return _arguments(cls, BRANCHES)


class TurnMixin:
    """One turn of a conversation: a question, and the state of its answer."""

    __names__: Names
    __conversation_key__: sa.Column[Any]

    number: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    """1, 2, 3, ... in the order in which the turns of a conversation were requested, and in which they run."""
    id: Mapped[str] = mapped_column(UUIDString, nullable=False, default=new_id)
    org_id: Mapped[str] = mapped_column(sa.String(255), nullable=False)
    user_id: Mapped[str] = mapped_column(sa.String(255), nullable=False)
    kind: Mapped[str] = mapped_column(sa.String(16), nullable=False)
    state: Mapped[str] = mapped_column(sa.String(20), nullable=False)
    protocol: Mapped[str | None] = mapped_column(sa.String(8))
    question_id: Mapped[str | None] = mapped_column(UUIDString)
    answer_id: Mapped[str | None] = mapped_column(UUIDString)
    request: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    """The request of a waiting turn, carried out once it begins."""
    client_id: Mapped[str | None] = mapped_column(sa.String(MAX_CLIENT_ID))
    """The client id of the question, by which a retry finds the turn."""
    key: Mapped[str | None] = mapped_column(sa.String(255))
    """The Idempotency-Key of the request that began it."""
    fingerprint: Mapped[str | None] = mapped_column(sa.String(64))
    token: Mapped[str | None] = mapped_column(UUIDString)
    """Known only to the worker of the turn: a write without it changes no row."""
    expires_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime)
    """When the lease of that worker ends, by the clock of the database."""
    cancelled: Mapped[bool] = mapped_column(sa.Boolean, nullable=False, default=False)
    """Whether the worker was asked to stop."""
    calls: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    """Tool calls that wait, or have waited, for an approval, with the decisions and the number of parts of the answer by then."""
    error: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    created_at: Mapped[dt.datetime] = mapped_column(UTCDateTime, nullable=False, default=now)
    started_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime)
    """When it was no longer waiting; None for one that ended while it waited."""
    updated_at: Mapped[dt.datetime] = mapped_column(UTCDateTime, nullable=False, default=now)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime)

    @declared_attr
    def conversation_id(cls) -> Mapped[str]:
        return _child_key(cls, TURNS)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return cls.__names__.table(TURNS)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        name = cls.__names__.object
        unique = [
            ("active", f"state IN ({', '.join(map(repr, ACTIVE_STATES))})", ["conversation_id"]),
            ("client_id", "client_id IS NOT NULL", ["conversation_id", "client_id"]),
            ("key", "key IS NOT NULL", ["conversation_id", "key"]),
        ]
        return _arguments(
            cls,
            TURNS,
            sa.UniqueConstraint("conversation_id", "id", name=name("uq", TURNS, "id")),
            *(
                sa.Index(
                    name("uq", TURNS, what),
                    *columns,
                    unique=True,
                    postgresql_where=sa.text(where),
                    sqlite_where=sa.text(where),
                )
                for what, where, columns in unique
            ),
            sa.Index(name("ix", TURNS, "expires_at"), "expires_at"),
        )


def _child_key(cls: Any, table: str) -> Mapped[str]:
    key = cls.__names__.object("fk", table, "conversation")
    return mapped_column(
        UUIDString,
        sa.ForeignKey(cls.__conversation_key__, ondelete="CASCADE", name=key),
        primary_key=True,
        sort_order=-1,
    )


class IdempotencyMixin:
    """The answer to one request with an Idempotency-Key, written in the transaction of its effect."""

    __names__: Names

    user_id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    scope: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(sa.String(64), nullable=False)
    answer: Mapped[Any] = mapped_column(JSONValue, nullable=True)
    conversation_id: Mapped[str | None] = mapped_column(UUIDString)
    created_at: Mapped[dt.datetime] = mapped_column(UTCDateTime, nullable=False)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return cls.__names__.table(IDEMPOTENCY)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        name = cls.__names__.object
        return _arguments(
            cls,
            IDEMPOTENCY,
            sa.Index(name("ix", IDEMPOTENCY, "created_at"), "created_at"),
            sa.Index(name("ix", IDEMPOTENCY, "conversation"), "conversation_id"),
        )


class QueryLogMixin:
    """One call of the service, for auditing: its identity, action, conversation and duration."""

    __names__: Names

    id: Mapped[str] = mapped_column(UUIDString, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.String(255), nullable=False)
    user_id: Mapped[str] = mapped_column(sa.String(255), nullable=False)
    session_id: Mapped[str | None] = mapped_column(sa.String(255))
    conversation_id: Mapped[str | None] = mapped_column(UUIDString)
    action: Mapped[str] = mapped_column(sa.String(64), nullable=False)
    duration_ms: Mapped[float] = mapped_column(sa.Float, nullable=False)
    created_at: Mapped[dt.datetime] = mapped_column(UTCDateTime, nullable=False)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return cls.__names__.table(QUERY_LOG)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        name = cls.__names__.object
        return _arguments(
            cls,
            QUERY_LOG,
            sa.Index(name("ix", QUERY_LOG, "owner"), "user_id", "org_id", "created_at"),
            sa.Index(name("ix", QUERY_LOG, "conversation"), "conversation_id", "created_at"),
        )


class SchemaVersionMixin:
    """The migration step of the tables, in a row of its own."""

    __names__: Names

    version: Mapped[str] = mapped_column(sa.String(32), primary_key=True)

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return cls.__names__.table(VERSION)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        return _arguments(cls, VERSION)


@dataclasses.dataclass(frozen=True)
class Table:
    """One table, and how the rest of the package treats it."""

    name: str
    """Without the host's prefix."""
    model: str
    """The attribute of `Models` that is its class."""
    mixin: type[Any]
    """Its columns and indexes."""
    has_owner: bool = False
    """Whether its rows carry the owner of their conversation: they follow when the conversation is claimed."""
    orphans: str | None = None
    """Text of `verify` for rows without their conversation, with which rows are deleted. None for rows that are kept then."""
    repairable: bool = True
    """Whether `verify --repair` deletes those rows."""


TABLES = (
    Table(CONVERSATIONS, "Conversation", ConversationMixin),
    Table(
        MESSAGES,
        "Message",
        MessageMixin,
        has_owner=True,
        orphans="{count} messages of a conversation that is not there: no user sees them. Delete them by hand.",
        repairable=False,
    ),
    Table(TAGS, "Tag", TagMixin, has_owner=True, orphans="{count} tags of a conversation that is not there."),
    Table(
        BRANCHES, "Branch", BranchMixin, has_owner=True, orphans="{count} branches of a conversation that is not there."
    ),
    Table(TURNS, "Turn", TurnMixin, has_owner=True, orphans="{count} turns of a conversation that is not there."),
    Table(
        IDEMPOTENCY,
        "Idempotency",
        IdempotencyMixin,
        orphans="{count} kept answers about a conversation that is not there.",
    ),
    Table(QUERY_LOG, "QueryLog", QueryLogMixin),
    Table(VERSION, "SchemaVersion", SchemaVersionMixin),
)
