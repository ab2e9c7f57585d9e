"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from flask_conversations.column_types import JSONValue, UTCDateTime, UUIDString
from flask_conversations.tables import Names

revision = "0001"
down_revision = None


def upgrade(names: Names) -> None:
    _create_conversations(names)
    _create_messages(names)
    _create_tags(names)
    _create_branches(names)
    _create_turns(names)
    _create_idempotency(names)
    _create_query_log(names)


def downgrade(names: Names) -> None:
    for table in (
        "conversation_query_log",
        "conversation_idempotency",
        "conversation_turns",
        "conversation_branches",
        "conversation_tags",
        "conversation_messages",
        "conversations",
    ):
        op.drop_table(names.table(table), schema=names.schema)


def _create_conversations(names: Names) -> None:
    op.create_table(
        names.table("conversations"),
        sa.Column("id", UUIDString, primary_key=True),
        sa.Column("client_id", sa.String(128)),
        sa.Column("title", sa.String(255)),
        sa.Column("title_source", sa.String(8), nullable=False),
        sa.Column("preview", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("starred", sa.Boolean, nullable=False),
        sa.Column("folder", sa.String(255)),
        sa.Column("tags", JSONValue),
        sa.Column("context_type", sa.String(255)),
        sa.Column("context_id", sa.String(255)),
        sa.Column("page_context", sa.Text),
        sa.Column("metadata", JSONValue),
        sa.Column("temporary", sa.Boolean, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("field_versions", JSONValue),
        sa.Column("rev", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("message_count", sa.BigInteger, nullable=False),
        sa.Column("checksum", sa.BigInteger, nullable=False),
        sa.Column("head_id", UUIDString),
        sa.Column("previous_head_id", UUIDString),
        sa.Column("branched", sa.Boolean, nullable=False),
        sa.Column("branch", sa.String(128), nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        sa.Column("last_message_at", UTCDateTime),
        sa.Column("last_activity_at", UTCDateTime, nullable=False),
        sa.Column("archived_at", UTCDateTime),
        sa.Column("resolved_at", UTCDateTime),
        sa.Column("deleted_at", UTCDateTime),
        sa.Column("org_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.UniqueConstraint("org_id", "user_id", "client_id", name=names.object("uq", "conversations", "client_id")),
        *_owner_key(names, "org_id", names.org_foreign_key, "org"),
        *_owner_key(names, "user_id", names.user_foreign_key, "user"),
        schema=names.schema,
        if_not_exists=True,
    )
    _index(names, "conversations", "activity", "user_id", "org_id", "status", "last_activity_at", "id")
    _index(names, "conversations", "updated", "user_id", "org_id", "updated_at", "id")
    _index(names, "conversations", "status", "status", "deleted_at")
    _index(names, "conversations", "last_message_at", "last_message_at")


def _create_messages(names: Names) -> None:
    op.create_table(
        names.table("conversation_messages"),
        sa.Column("conversation_id", UUIDString, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", UUIDString, nullable=False),
        sa.Column("org_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("client_id", sa.String(128)),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("parent_id", UUIDString),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.BigInteger, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("content_is_parts", sa.Boolean, nullable=False),
        sa.Column("parts", JSONValue),
        sa.Column("raw", JSONValue),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("action_type", sa.String(255)),
        sa.Column("action_params", JSONValue),
        sa.Column("action_result", JSONValue),
        sa.Column("action_status", sa.String(255)),
        sa.Column("component_type", sa.String(255)),
        sa.Column("component_data", JSONValue),
        sa.Column("attachments", JSONValue),
        sa.Column("contexts", JSONValue),
        sa.Column("metadata", JSONValue),
        sa.Column("model", sa.String(255)),
        sa.Column("tokens_used", sa.BigInteger),
        sa.Column("usage", JSONValue),
        sa.Column("latency_ms", sa.Float),
        sa.Column("rating", sa.String(16)),
        sa.Column("rating_reason", sa.String(255)),
        sa.Column("rating_comment", sa.Text),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        sa.Column("edited_at", UTCDateTime),
        sa.Column("deleted_at", UTCDateTime),
        sa.UniqueConstraint("conversation_id", "id", name=names.object("uq", "conversation_messages", "id")),
        _conversation_key(names, "conversation_messages"),
        schema=names.schema,
        if_not_exists=True,
    )
    with_client_id = sa.text("client_id IS NOT NULL")
    op.create_index(
        names.object("uq", "conversation_messages", "client_id"),
        names.table("conversation_messages"),
        ["conversation_id", "client_id"],
        unique=True,
        schema=names.schema,
        if_not_exists=True,
        postgresql_where=with_client_id,
        sqlite_where=with_client_id,
    )
    _index(names, "conversation_messages", "created", "conversation_id", "created_at")
    _index(names, "conversation_messages", "created_at", "created_at")
    _index(names, "conversation_messages", "role", "role")
    _index(names, "conversation_messages", "type", "type")


def _create_tags(names: Names) -> None:
    op.create_table(
        names.table("conversation_tags"),
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("org_id", sa.String(255), primary_key=True),
        sa.Column("tag", sa.String(64), primary_key=True),
        sa.Column("conversation_id", UUIDString, primary_key=True),
        _conversation_key(names, "conversation_tags"),
        schema=names.schema,
        if_not_exists=True,
    )
    _index(names, "conversation_tags", "conversation", "conversation_id")


def _create_branches(names: Names) -> None:
    op.create_table(
        names.table("conversation_branches"),
        sa.Column("conversation_id", UUIDString, primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("org_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("head_id", UUIDString),
        sa.Column("created_at", UTCDateTime, nullable=False),
        _conversation_key(names, "conversation_branches"),
        schema=names.schema,
        if_not_exists=True,
    )


def _create_turns(names: Names) -> None:
    op.create_table(
        names.table("conversation_turns"),
        sa.Column("conversation_id", UUIDString, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", UUIDString, nullable=False),
        sa.Column("org_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("protocol", sa.String(8)),
        sa.Column("question_id", UUIDString),
        sa.Column("answer_id", UUIDString),
        sa.Column("request", JSONValue),
        sa.Column("client_id", sa.String(128)),
        sa.Column("key", sa.String(255)),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("token", UUIDString),
        sa.Column("expires_at", UTCDateTime),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("calls", JSONValue),
        sa.Column("error", JSONValue),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("started_at", UTCDateTime),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        sa.Column("ended_at", UTCDateTime),
        sa.UniqueConstraint("conversation_id", "id", name=names.object("uq", "conversation_turns", "id")),
        _conversation_key(names, "conversation_turns"),
        schema=names.schema,
        if_not_exists=True,
    )
    _unique_where(names, "active", "state IN ('processing', 'streaming', 'awaiting_approval')", "conversation_id")
    _unique_where(names, "client_id", "client_id IS NOT NULL", "conversation_id", "client_id")
    _unique_where(names, "key", "key IS NOT NULL", "conversation_id", "key")
    _index(names, "conversation_turns", "expires_at", "expires_at")


def _unique_where(names: Names, what: str, condition: str, *columns: str) -> None:
    op.create_index(
        names.object("uq", "conversation_turns", what),
        names.table("conversation_turns"),
        list(columns),
        unique=True,
        schema=names.schema,
        if_not_exists=True,
        postgresql_where=sa.text(condition),
        sqlite_where=sa.text(condition),
    )


def _create_idempotency(names: Names) -> None:
    op.create_table(
        names.table("conversation_idempotency"),
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("org_id", sa.String(255), primary_key=True),
        sa.Column("scope", sa.String(255), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("answer", JSONValue),
        sa.Column("conversation_id", UUIDString),
        sa.Column("created_at", UTCDateTime, nullable=False),
        schema=names.schema,
        if_not_exists=True,
    )
    _index(names, "conversation_idempotency", "created_at", "created_at")
    _index(names, "conversation_idempotency", "conversation", "conversation_id")


def _create_query_log(names: Names) -> None:
    op.create_table(
        names.table("conversation_query_log"),
        sa.Column("id", UUIDString, primary_key=True),
        sa.Column("org_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("session_id", sa.String(255)),
        sa.Column("conversation_id", UUIDString),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("duration_ms", sa.Float, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        schema=names.schema,
        if_not_exists=True,
    )
    _index(names, "conversation_query_log", "owner", "user_id", "org_id", "created_at")
    _index(names, "conversation_query_log", "conversation", "conversation_id", "created_at")


def _owner_key(names: Names, column: str, target: str | None, what: str) -> list[sa.ForeignKeyConstraint]:
    if target is None:
        return []
    name = names.object("fk", "conversations", what)
    return [sa.ForeignKeyConstraint([column], [target], name=name, ondelete="CASCADE")]


def _conversation_key(names: Names, table: str) -> sa.ForeignKeyConstraint:
    schema = f"{names.schema}." if names.schema else ""
    target = f"{schema}{names.table('conversations')}.id"
    return sa.ForeignKeyConstraint(
        ["conversation_id"], [target], name=names.object("fk", table, "conversation"), ondelete="CASCADE"
    )


def _index(names: Names, table: str, what: str, *columns: str) -> None:
    name = names.object("ix", table, what)
    op.create_index(name, names.table(table), list(columns), schema=names.schema, if_not_exists=True)
