"""The rows of messages. Every query takes the conversation's row or the owner's predicate, never a bare id."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..models import Models
from ..schemas import fields, rules
from ..schemas import messages as message_schema
from . import Store, constant, keyed, mine, statement, visible
from .rows import Columns, ConversationRow, MessageRow, Placed, SavedMessageRow

HISTORY = ("role", "content", "content_is_parts", "parts", "raw", "status", "seq", "summary")
"""The columns that a model's history needs: reading few of them is most of its speed.

`summary` is no column, but the metadata of messages that are summaries.
"""

NAMED_HISTORY = (*HISTORY, "id", "parent_id", "metadata", "model", "created_at")
"""The columns for a history whose format has message ids."""

STORED = tuple(message_schema.STORED)


def insert(store: Store, rows: list[dict[str, Any]]) -> None:
    """Insert messages that `advance` made room for."""
    names = set().union(*rows)
    if any(len(row) != len(names) for row in rows):
        rows = [{name: row.get(name) for name in names} for row in rows]
    store.insert(store.models.Message.__table__, rows)


class Newest(NamedTuple):
    """The newest messages, newest first, and the state of their conversation at that moment."""

    conversation_id: str
    version: int
    rows: list[Any]
    """`MessageRow`, unless other columns were asked for."""
    rev: int
    exact: bool
    """Whether version and messages are of the same moment; with *shared*, the present one until this transaction ends."""
    branched: bool
    """Whether the conversation has ever had more than one path."""


def newest(
    store: Store,
    conversation_id: Any,
    *,
    limit: int | None,
    before: int | None = None,
    after: int | None = None,
    columns: tuple[str, ...] = STORED,
    shared: bool = False,
) -> Newest | None:
    """The newest messages of the active branch, newest first (with *after*: the first ones after it, oldest first).

    One statement answers ownership, version and messages together, so that they cannot contradict each other. None if the
    conversation is not the owner's. With *shared* it also locks out writers, unless one is at work already.
    """
    shared = shared and store.dialect == "postgresql"
    id_column, key = store.key(conversation_id)
    query = _newest(
        store.models,
        store.system,
        id_column,
        columns,
        before is not None,
        after is not None,
        limit is None,
        shared,
    )
    parameters = {"key": key, "before": before, "after": after, "limit": limit}
    rows = store.execute(query, parameters).all()
    if not rows:
        return None
    first = rows[0]
    exact = not shared or first.locked_version == first.own_version
    own_id = key if id_column == "id" else first.own_id
    if first.branched:
        found = walk(store, own_id, first.branch_head_id, limit=limit, before=before, after=after, columns=columns)
        # the walk is a statement of its own, which sees later commits, unless the isolation level forbids that
        return Newest(own_id, first.own_version, found, first.own_rev, shared and exact, True)
    found = [] if first.seq is None else _ordered(rows, rising=after is not None)
    return Newest(own_id, first.own_version, found, first.own_rev, exact, False)


@statement
def _newest(
    models: Models,
    system: bool,
    column: str,
    columns: tuple[str, ...],
    before: bool,
    after: bool,
    unlimited: bool,
    shared: bool,
) -> Any:
    c = models.Conversation.__table__.c
    m = models.Message.__table__.c
    own_id: Any = sa.bindparam("key", type_=c.id.type)
    # columns of the conversation come with every row: none that is known already, the head only for a walk
    own = [c.version.label("own_version"), c.rev.label("own_rev"), c.branched]
    own.append(sa.case((c.branched, c.head_id)).label("branch_head_id"))
    if shared:
        own.append(_locked_version(models, system, column).label("locked_version"))
    if column != "id":
        own_id = sa.select(c.id).where(keyed(models, column), mine(models, system)).scalar_subquery()
        own.append(c.id.label("own_id"))
    names = columns if "seq" in columns else (*columns, "seq")
    window = sa.select(*_read(m, names)).where(m.conversation_id == own_id, m.deleted_at.is_(None))
    if before:
        window = window.where(m.seq < sa.bindparam("before", type_=sa.BigInteger))
    if after:
        window = window.where(m.seq > sa.bindparam("after", type_=sa.BigInteger))
    window = window.order_by(m.seq if after else m.seq.desc())
    if not unlimited:
        window = window.limit(sa.bindparam("limit", type_=sa.Integer))
    found = window.subquery("found")
    return (
        sa.select(*found.c, *own)
        .select_from(models.Conversation.__table__.outerjoin(found, sa.true()))
        .where(keyed(models, column), mine(models, system), visible(models))
    )


def _read(m: Columns, names: tuple[str, ...]) -> list[sa.ColumnElement[Any]]:
    summary = sa.case((m.type == constant("summary"), m.metadata)).label("summary")
    return [summary if name == "summary" else m[name] for name in names]


def _locked_version(models: Models, system: bool, column: str) -> Any:
    """The version of the row, locked against writers from now on; null if a writer has locked it.

    The lock may find a newer version than the statement's own snapshot, from which the messages come: they are current only
    if both versions are the same. A lock makes even a reading transaction wait for the disk when it commits; this one has
    changed nothing, and does not wait.
    """
    no_wait = sa.select(
        sa.func.set_config(constant("synchronous_commit"), constant("off"), sa.true())
    ).scalar_subquery()
    locked = (
        sa.select(models.Conversation.__table__.c.version)
        .where(keyed(models, column), mine(models, system), no_wait.is_not(None))
        .with_for_update(read=True, skip_locked=True)
        .cte("locked")
    )
    return sa.select(locked.c.version).scalar_subquery()


def _ordered(rows: Sequence[Any], *, rising: bool) -> list[Any]:
    # the join keeps the order of its window, but SQL does not guarantee that: sorting here costs less than a second ORDER BY
    return sorted(rows, key=operator.attrgetter("seq"), reverse=not rising)


def walk(
    store: Store,
    own_id: str,
    head_id: str | None,
    *,
    limit: int | None,
    before: int | None = None,
    after: int | None = None,
    columns: tuple[str, ...] = STORED,
) -> list[Any]:
    """The path from a message upwards, newest first; with *after*, its first messages after that seq, oldest first.

    The seq falls with each step, so the walk is the order. *before* is the seq of a message whose ancestors are wanted,
    on any branch: a page costs about the same at any place. A seq that no message has only bounds the path.
    """
    query = path_query(store.models, columns, before is not None, after is not None, limit is None)
    parameters = {"conversation": own_id, "head": head_id, "before": before, "after": after, "limit": limit}
    return list(store.execute(query, parameters).all())


@statement
def path_query(models: Models, columns: tuple[str, ...], before: bool, after: bool, unlimited: bool) -> Any:
    m = models.Message.__table__.c
    here = sa.bindparam("conversation", type_=m.conversation_id.type)
    head: Any = sa.bindparam("head", type_=m.id.type)
    limit = sa.bindparam("limit", type_=sa.Integer)
    upper, lower = sa.bindparam("before", type_=sa.BigInteger), sa.bindparam("after", type_=sa.BigInteger)
    counted: Any = constant(1)
    if before:
        anchor = models.Message.__table__.alias("anchor").c
        place = sa.and_(anchor.conversation_id == here, anchor.seq == upper)
        parent = sa.select(anchor.parent_id).where(place).scalar_subquery()
        head = sa.case((sa.exists().where(place), parent), else_=head)
        counted = sa.case((m.seq < upper, constant(1)), else_=constant(0))
    wanted = (m.conversation_id == here, *([m.seq > lower] if after else []))
    first = sa.select(m.seq, m.parent_id, counted.label("depth")).where(*wanted, m.id == head)
    path = first.cte("path", recursive=True)
    step = sa.select(m.seq, m.parent_id, path.c.depth + counted).where(*wanted, m.id == path.c.parent_id)
    # the first ones after a place are known only at the end of the walk
    path = path.union_all(step if unlimited or after else step.where(path.c.depth < limit))
    # chosen by columns of the walk alone: else databases would search all messages for its own
    chosen = sa.select(path.c.seq, path.c.depth).order_by(path.c.depth.desc() if after else path.c.depth)
    if before:
        chosen = chosen.where(path.c.seq < upper)
    found = (chosen if unlimited else chosen.limit(limit)).subquery("chosen")
    return (
        sa.select(*_read(m, columns))
        .where(m.conversation_id == here, m.seq == found.c.seq, m.deleted_at.is_(None))
        .order_by(found.c.depth.desc() if after else found.c.depth)
    )


def one(store: Store, conversation_id: Any, message_id: Any, columns: tuple[str, ...] = STORED) -> MessageRow | None:
    """One live message of one of the owner's conversations, or None."""
    column = message_key(message_id)
    if column is None:
        return None
    id_column, key = store.key(conversation_id)
    query = _one(store.models, store.system, id_column, column, columns)
    parameters = {"key": key, "message": message_value(message_id)}
    return store.execute(query, parameters).first()


def message_key(message_id: Any) -> str | None:
    """The column that holds a message id from outside; None for an invalid id."""
    if rules.uuid_or_none(message_id):
        return "id"
    return "client_id" if rules.is_client_id(message_id) else None


def message_value(message_id: Any) -> Any:
    return rules.uuid_or_none(message_id) or message_id


@statement
def _one(models: Models, system: bool, column: str, message_column: str, columns: tuple[str, ...]) -> Any:
    m = models.Message.__table__.c
    joined = models.Message.__table__.join(
        models.Conversation.__table__, m.conversation_id == models.Conversation.__table__.c.id
    )
    return (
        sa.select(*(m[name] for name in columns))
        .select_from(joined)
        .where(keyed(models, column), mine(models, system), visible(models))
        .where(m[message_column] == sa.bindparam("message", type_=m[message_column].type), m.deleted_at.is_(None))
    )


def by_client_id(store: Store, conversation: ConversationRow, client_id: str) -> SavedMessageRow | None:
    """The message that was saved with *client_id*, even if it was deleted since; see its `deleted_at`."""
    parameters = {"conversation": conversation.id, "message_client_id": client_id}
    return store.execute(_by_client_id(store.models), parameters).first()


@statement
def _by_client_id(models: Models) -> Any:
    m = models.Message.__table__.c
    return sa.select(*(m[name] for name in STORED), m.deleted_at).where(
        m.conversation_id == sa.bindparam("conversation", type_=m.conversation_id.type),
        m.client_id == sa.bindparam("message_client_id", type_=m.client_id.type),
    )


def up_to(
    store: Store, conversation: ConversationRow, place: tuple[str, int] | None, *, limit: int
) -> list[MessageRow]:
    """The newest *limit* messages up to one, newest first, on its branch; those of the active branch without one.

    *place* is the id and the seq of that message.
    """
    if place is None or not conversation.branched:
        before = place[1] + 1 if place is not None else None
        found = newest(store, conversation.id, limit=limit, before=before)
        return found.rows if found else []
    return walk(store, conversation.id, place[0], limit=limit)


def of_conversation(store: Store, conversation: ConversationRow, limit: int | None = None) -> list[MessageRow]:
    """All messages of the active branch of a conversation already found, oldest first, or the newest *limit* of them."""
    found = newest(store, conversation.id, limit=limit)
    return found.rows[::-1] if found else []


def change(store: Store, conversation: ConversationRow, message: Placed, values: Mapping[str, Any]) -> None:
    """Set columns of one message of a locked conversation."""
    parameters = {f"set_{name}": value for name, value in values.items()}
    parameters.update(conversation=conversation.id, here=message.seq)
    store.execute(_change(store.models, tuple(values)), parameters)


@statement
def _change(models: Models, names: tuple[str, ...]) -> Any:
    table = models.Message.__table__
    values = {name: sa.bindparam(f"set_{name}", type_=table.c[name].type) for name in names}
    return sa.update(table).where(*_in_conversation(table.c), table.c.seq == sa.bindparam("here")).values(values)


def _in_conversation(m: Columns) -> tuple[sa.ColumnElement[bool]]:
    return (m.conversation_id == sa.bindparam("conversation", type_=m.conversation_id.type),)


EMPTIED: dict[str, Any] = {
    **{name: None for name in STORED if not fields.MESSAGE[name].kept},
    "content": "",
    "content_is_parts": False,
    "digest": 0,
}
"""The columns that a deletion clears."""


def soft_delete(
    store: Store,
    conversation: ConversationRow,
    messages: Iterable[MessageRow],
    heirs: Mapping[str, str | None],
    *,
    version: int,
    at: dt.datetime,
) -> None:
    """Turn messages into tombstones; the children of each move up to its heir, the nearest live message above it."""
    for message in messages:
        change(store, conversation, message, {**EMPTIED, "version": version, "updated_at": at, "deleted_at": at})
        parameters = {"conversation": conversation.id, "here": message.seq, "child_of": message.id}
        store.execute(_adopt(store.models), {**parameters, "heir": heirs[message.id]})


@statement
def _adopt(models: Models) -> Any:
    table = models.Message.__table__
    m = table.c
    return (
        sa.update(table)
        .where(
            *_in_conversation(m), m.seq > sa.bindparam("here"), m.parent_id == sa.bindparam("child_of", type_=m.id.type)
        )
        .values(parent_id=sa.bindparam("heir", type_=m.id.type))
    )


def soft_delete_all(store: Store, conversation: ConversationRow, *, version: int, at: dt.datetime) -> int:
    """Turn every live message of a locked conversation into a tombstone; how many there were."""
    values = {**EMPTIED, "parent_id": None, "version": version, "updated_at": at, "deleted_at": at}
    parameters = {f"set_{name}": value for name, value in values.items()}
    return store.execute(
        _soft_delete_all(store.models, tuple(values)), {**parameters, "conversation": conversation.id}
    ).rowcount


@statement
def _soft_delete_all(models: Models, names: tuple[str, ...]) -> Any:
    table = models.Message.__table__
    values = {name: sa.bindparam(f"set_{name}", type_=table.c[name].type) for name in names}
    return sa.update(table).where(*_in_conversation(table.c), table.c.deleted_at.is_(None)).values(values)


def newest_of_each(store: Store, conversations: Sequence[ConversationRow], limit: int) -> dict[str, list[MessageRow]]:
    """The newest messages of several conversations, oldest first, in one statement for all that never branched.

    Each conversation's are a range of the primary key, which begins behind the newest live message beyond the limit.
    """
    found: dict[str, list[MessageRow]] = {conversation.id: [] for conversation in conversations}
    straight = [conversation.id for conversation in conversations if not conversation.branched]
    if straight:
        for row in store.execute(_newest_of_each(store.models), {"ids": straight, "limit": limit}):
            found[row.conversation_id].append(row)
    for conversation in conversations:
        if conversation.branched:
            found[conversation.id] = of_conversation(store, conversation, limit)
    return found


@statement
def _newest_of_each(models: Models) -> Any:
    c = models.Conversation.__table__.c
    m = models.Message.__table__.c
    joined = models.Message.__table__.join(models.Conversation.__table__, m.conversation_id == c.id)
    older = models.Message.__table__.alias("older").c
    one_too_many = (
        sa.select(older.seq)
        .where(older.conversation_id == c.id, older.deleted_at.is_(None))
        .order_by(older.seq.desc())
        .limit(1)
        .offset(sa.bindparam("limit", type_=sa.Integer))
    )
    return (
        sa.select(*(m[name] for name in STORED))
        .select_from(joined)
        .where(c.id.in_(sa.bindparam("ids", expanding=True, type_=c.id.type)), m.deleted_at.is_(None))
        .where(m.seq > sa.func.coalesce(one_too_many.scalar_subquery(), constant(0)))
        .order_by(m.conversation_id, m.seq)
    )


def seq_of(store: Store, conversation_id: Any, message_id: Any) -> int | None:
    """The seq of a message, also of a deleted one; None if there never was one."""
    column = message_key(message_id)
    if column is None:
        return None
    id_column, key = store.key(conversation_id)
    query = _seq_of(store.models, store.system, id_column, column)
    parameters = {"key": key, "message": message_value(message_id)}
    return store.execute(query, parameters).scalar()


@statement
def _seq_of(models: Models, system: bool, column: str, message_column: str) -> Any:
    m = models.Message.__table__.c
    c = models.Conversation.__table__.c
    return (
        sa.select(m.seq)
        .select_from(models.Message.__table__.join(models.Conversation.__table__, m.conversation_id == c.id))
        .where(keyed(models, column), mine(models, system), visible(models))
        .where(m[message_column] == sa.bindparam("message", type_=m[message_column].type))
    )


def set_version(store: Store, conversation: ConversationRow, version: int) -> None:
    """Set messages that this transaction has brought beyond *version* back to it."""
    store.execute(_set_version(store.models), {"conversation": conversation.id, "the_version": version})


@statement
def _set_version(models: Models) -> Any:
    table = models.Message.__table__
    version = sa.bindparam("the_version", type_=sa.BigInteger)
    return sa.update(table).where(*_in_conversation(table.c), table.c.version > version).values(version=version)


def taken(store: Store, conversation: ConversationRow, messages: Sequence[Mapping[str, Any]]) -> set[str]:
    """Those ids and client ids of *messages* that the conversation has already used, deleted and branched ones included."""
    found: set[str] = set()
    for start in range(0, len(messages), _BATCH_SIZE):
        some = messages[start : start + _BATCH_SIZE]
        names = {"ids": [row["id"] for row in some], "client_ids": [row.get("client_id") for row in some]}
        for used in store.execute(_taken(store.models), {"conversation": conversation.id, **names}):
            found.update(name for name in used if name is not None)
    return found


_BATCH_SIZE = 500
"""Messages of one statement: databases bound the number of parameters."""


@statement
def _taken(models: Models) -> Any:
    m = models.Message.__table__.c
    named = sa.or_(
        m.id.in_(sa.bindparam("ids", expanding=True, type_=m.id.type)),
        m.client_id.in_(sa.bindparam("client_ids", expanding=True, type_=m.client_id.type)),
    )
    return sa.select(m.id, m.client_id).where(*_in_conversation(m), named)
