"""An event log that the database itself keeps: the changes of each committed transaction to each conversation.

Triggers write it in the transaction that they watch, so that it has exactly the committed changes, also those without an answer.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

KEPT = 60
"""Newest messages of a state that are remembered; no read asks for more."""

_TABLE = """
CREATE TABLE chaos_event_log (
    id {identity}, transaction_id text NOT NULL, conversation_id text NOT NULL,
    version bigint, seq bigint, message_id text, content text, deleted boolean
)
"""

_POSTGRESQL = [
    _TABLE.format(identity="bigserial PRIMARY KEY"),
    """
    CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_TABLE_NAME = 'conversations' THEN
            INSERT INTO chaos_event_log (transaction_id, conversation_id, version)
            VALUES (txid_current()::text, NEW.id::text, NEW.version);
        ELSE
            INSERT INTO chaos_event_log (transaction_id, conversation_id, seq, message_id, content, deleted)
            VALUES (txid_current()::text, NEW.conversation_id::text, NEW.seq, NEW.id::text, NEW.content,
                    NEW.deleted_at IS NOT NULL);
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER chaos_conversations AFTER INSERT OR UPDATE ON conversations
    FOR EACH ROW EXECUTE FUNCTION chaos_note()
    """,
    "CREATE TRIGGER chaos_messages AFTER INSERT OR UPDATE ON conversation_messages FOR EACH ROW EXECUTE FUNCTION chaos_note()",
]

_SQLITE = [_TABLE.format(identity="integer PRIMARY KEY")] + [
    f"""
    CREATE TRIGGER chaos_{table}_{verb.lower()} AFTER {verb} ON {table} BEGIN
        INSERT INTO chaos_event_log (transaction_id, conversation_id, {columns})
        VALUES (chaos_transaction(), {values});
    END
    """
    for verb in ("INSERT", "UPDATE")
    for table, columns, values in (
        ("conversations", "version", "NEW.id, NEW.version"),
        (
            "conversation_messages",
            "seq, message_id, content, deleted",
            "NEW.conversation_id, NEW.seq, NEW.id, NEW.content, NEW.deleted_at IS NOT NULL",
        ),
    )
]


def begin(engine: sa.Engine) -> None:
    """Make the table and the triggers."""
    watch(engine)
    with engine.begin() as connection:
        for statement in _POSTGRESQL if engine.dialect.name == "postgresql" else _SQLITE:
            connection.exec_driver_sql(statement)


def watch(engine: sa.Engine) -> None:
    """Give SQLite a name for each transaction, as PostgreSQL has; every process that writes needs it."""
    if engine.dialect.name != "sqlite":
        return

    def connected(driver: Any, record: Any) -> None:
        record.info["transaction"] = uuid.uuid4().hex
        driver.create_function("chaos_transaction", 0, lambda: record.info["transaction"])

    def ended(connection: sa.Connection) -> None:
        connection.info["transaction"] = uuid.uuid4().hex

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", ended)
    engine.dispose()


Message = tuple[str, str]
"""Its id and its content."""


@dataclasses.dataclass(frozen=True)
class State:
    """A conversation as one committed transaction has left it."""

    version: int
    newest: tuple[Message, ...]
    """The newest messages, the newest first."""
    count: int
    changes: frozenset[tuple[str, str | None]]
    """What the transaction did: the id of each message, and its content, None where it was deleted."""


def states(engine: sa.Engine) -> dict[str, list[State]]:
    """All states of all conversations, in the order of their commits."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT transaction_id, conversation_id, version, seq, message_id, content, deleted"
            " FROM chaos_event_log ORDER BY id"
        ).all()
    by_conversation: dict[str, dict[str, list[Any]]] = {}
    for row in rows:
        conversation_id = str(uuid.UUID(row.conversation_id))
        by_conversation.setdefault(conversation_id, {}).setdefault(row.transaction_id, []).append(row)
    return {conversation_id: list(_replay(some.values())) for conversation_id, some in by_conversation.items()}


def _replay(transactions: Iterable[list[Any]]) -> Iterable[State]:
    def version_of(rows: list[Any]) -> int:
        return max(row.version for row in rows if row.version is not None)

    # the row of the conversation is locked until the commit, so versions are in the order of the commits
    live: dict[int, Message] = {}
    for rows in sorted(transactions, key=version_of):
        changes = set()
        for row in rows:
            if row.seq is None:
                continue
            message_id = str(uuid.UUID(row.message_id))
            if row.deleted:
                live.pop(row.seq, None)
            else:
                live[row.seq] = (message_id, row.content)
            changes.add((message_id, None if row.deleted else row.content))
        order = sorted(live, reverse=True)[:KEPT]
        yield State(version_of(rows), tuple(live[seq] for seq in order), len(live), frozenset(changes))
