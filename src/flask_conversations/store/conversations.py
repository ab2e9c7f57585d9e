"""The rows of conversations: insert, list, change, delete, and the one statement that opens every append."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ..ids import new_rev, now
from ..models import Models
from ..schemas import conversations as conversation_schema
from ..schemas import messages as message_schema
from ..schemas.fields import DEFAULT_TITLE
from . import Store, bounded_lock_wait, constant, conversation_columns, keyed, mine, statement, visible
from .rows import AdvancedRow, ConversationRow, IdentifiedRow

ORDERS = ("last_activity_at", "updated_at", "created_at", "title")


def insert(store: Store, values: Mapping[str, Any]) -> ConversationRow | None:
    """A new conversation, or None if its id or client id is taken."""
    row = {name: values.get(name) for name in conversation_schema.STORED}
    inserted = store.insert_unless_taken(store.models.Conversation.__table__, row, conversation_columns(store.models))
    if inserted is not None:
        store.record_change(inserted.id, inserted.version, inserted.rev)
    return inserted


def version_of(store: Store, conversation_id: Any) -> tuple[int, int] | None:
    """The version and the `rev` of the owner's conversation, by its primary key; None if it is not there."""
    id_column, key = store.key(conversation_id)
    found = store.execute(_version_of(store.models, store.system, id_column), {"key": key}).first()
    return None if found is None else (found.version, found.rev)


@statement
def _version_of(models: Models, system: bool, column: str) -> Any:
    c = models.Conversation.__table__.c
    return sa.select(c.version, c.rev).where(keyed(models, column), mine(models, system), visible(models))


def by_own_id(store: Store, own_id: str | None, client_id: str | None) -> ConversationRow | None:
    """The owner's conversation with that id or client id, in the trash or not."""
    column, key = ("id", own_id) if own_id else ("client_id", client_id)
    return store.execute(_by_own_id(store.models, store.system, column), {"key": key}).first()


@statement
def _by_own_id(models: Models, system: bool, column: str) -> Any:
    return sa.select(*conversation_columns(models)).where(keyed(models, column), mine(models, system))


@dataclasses.dataclass(frozen=True)
class Step:
    """The change of a conversation by messages that are about to be inserted."""

    count: int
    digest: int
    head_id: str
    preview: str
    title: str | None
    at: dt.datetime


def advance(store: Store, conversation_id: Any, step: Step, *, parent_id: str | None = None) -> AdvancedRow | None:
    """Make room for messages: ownership, row lock, sequence, counters, title and preview in one statement.

    None if the conversation is not the owner's.
    """
    id_column, key = store.key(conversation_id)
    shape = (step.title is not None, parent_id is not None, False)
    query = _advance(store.models, store.dialect, store.system, id_column, *shape)
    stepping = _stepping(key, step)
    advanced = store.execute(query, {**stepping, "parent": parent_id}).first()
    if advanced is not None:
        store.record_change(advanced.id, advanced.version, stepping["new_rev"])
    return advanced


def append(store: Store, conversation_id: Any, message: dict[str, Any], step: Step) -> bool:
    """Make room for one message and insert it, completed by its place.

    False if the conversation is not the owner's, or already has a message with this client id. One statement on PostgreSQL,
    where a WITH may write: the row is locked for a round trip less. Else two.
    """
    is_one_statement = store.dialect == "postgresql" and not _has_defaults(store.models)
    id_column, key = store.key(conversation_id)
    client_id = message.get("client_id")
    shape = (store.dialect, store.system, id_column, step.title is not None, False, client_id is not None)
    parameters = {**_stepping(key, step), "message_client_id": client_id}
    if is_one_statement:
        names = ALWAYS_FILLED if message.keys() == set(ALWAYS_FILLED) else WHOLE_MESSAGE
        parameters.update((f"its_{name}", message.get(name)) for name in names)
        place = store.execute(_append(store.models, names, *shape), parameters).first()
    else:
        place = store.execute(_advance(store.models, *shape), parameters).first()
    if place is None:
        return False
    store.record_change(place.id, place.version, parameters["new_rev"])
    message.update(
        conversation_id=place.id,
        org_id=place.org_id,
        user_id=place.user_id,
        seq=place.last_seq,
        version=place.version,
        parent_id=place.previous_head_id,
    )
    if not is_one_statement:
        store.insert(store.models.Message.__table__, [message])
    return True


ALWAYS_FILLED = ("id", "digest", "role", "type", "content", "content_is_parts", "status", "created_at", "updated_at")
"""The columns that every message fills, besides those of its place."""

_PLACE = ("conversation_id", "seq", "parent_id", "version")
WHOLE_MESSAGE = (
    *ALWAYS_FILLED,
    *(name for name in message_schema.STORED if name not in (*ALWAYS_FILLED, *_PLACE)),
)


@statement
def _has_defaults(models: Models) -> Any:
    """Whether columns of the host's have defaults in Python, which SQLAlchemy fills in for plain statements only."""
    ours = {*WHOLE_MESSAGE, *_PLACE}
    defaults = [c.default for c in models.Message.__table__.c if c.name not in ours]
    return any(found is not None for found in [*defaults, *(c.onupdate for c in models.Conversation.__table__.c)])


def _stepping(key: str, step: Step) -> dict[str, Any]:
    moment = now()
    return {
        "key": key,
        "count": step.count,
        "digest": step.digest,
        "new_head": step.head_id,
        "new_preview": step.preview,
        "new_title": step.title,
        "at": step.at,
        "active_at": min(step.at, moment),
        "moment": moment,
        "new_rev": new_rev(),
    }


@statement
def _append(models: Models, names: tuple[str, ...], *shape: Any) -> Any:
    table = models.Message.__table__
    m = table.c
    room = _advance(models, *shape).cte("room")
    place = [room.c.id, room.c.org_id, room.c.user_id, room.c.last_seq, room.c.version, room.c.previous_head_id]
    row = sa.select(*place, *(sa.bindparam(f"its_{name}", type_=m[name].type) for name in names))
    columns = ["conversation_id", "org_id", "user_id", "seq", "version", "parent_id", *names]
    return (
        sa.insert(table)
        .from_select(columns, row)
        .returning(
            m.conversation_id.label("id"),
            m.org_id,
            m.user_id,
            m.seq.label("last_seq"),
            m.version,
            m.parent_id.label("previous_head_id"),
        )
    )


@statement
def _advance(
    models: Models, dialect: str, system: bool, column: str, titled: bool, parented: bool, keyed_message: bool
) -> Any:
    c = models.Conversation.__table__.c
    m = models.Message.__table__.c
    at = sa.bindparam("at", type_=c.updated_at.type)
    count = sa.bindparam("count", type_=sa.BigInteger)
    values: dict[str, Any] = {
        **_stepped(models),
        "last_seq": c.last_seq + count,
        "message_count": c.message_count + count,
        "checksum": xor(c.checksum, sa.bindparam("digest", type_=sa.BigInteger)),
        "previous_head_id": c.head_id,
        "head_id": sa.bindparam("new_head", type_=c.head_id.type),
        "preview": sa.bindparam("new_preview", type_=sa.Text),
        "last_message_at": _later(c.last_message_at, at),
        "last_activity_at": _later(c.last_activity_at, sa.bindparam("active_at", type_=c.last_activity_at.type)),
    }
    if titled:
        fresh = c.title_source == constant("default")
        values["title"] = sa.case((fresh, sa.bindparam("new_title", type_=c.title.type)), else_=c.title)
        values["title_source"] = sa.case((fresh, constant("auto")), else_=c.title_source)
    if parented:
        parent = sa.bindparam("parent", type_=c.head_id.type)
        values["branched"] = sa.case((c.head_id == parent, c.branched), else_=sa.true())
    query = sa.update(models.Conversation.__table__).where(
        keyed(models, column), mine(models, system), visible(models), bounded_lock_wait(dialect)
    )
    if keyed_message:
        duplicate = sa.select(sa.literal(1)).where(
            m.conversation_id == c.id, m.client_id == sa.bindparam("message_client_id", type_=m.client_id.type)
        )
        query = query.where(~duplicate.exists())
    return query.values(values).returning(c.id, c.version, c.last_seq, c.previous_head_id, c.org_id, c.user_id)


def _later(stored: Any, given: Any) -> sa.ColumnElement[Any]:
    """The later of two times; the given one if none is stored."""
    return sa.case((stored > given, stored), else_=given)


def xor(left: Any, right: Any) -> Any:
    """Exclusive or in operators that both databases have; it cannot overflow, since AND's bits are a subset of OR's."""
    return left.bitwise_or(right).self_group() - left.bitwise_and(right).self_group()


def _stepped(models: Models) -> dict[str, Any]:
    """The columns that every change of a conversation sets: the next version, a new `rev`, the time."""
    c = models.Conversation.__table__.c
    return {
        "version": c.version + constant(1),
        "rev": sa.bindparam("new_rev", type_=sa.BigInteger),
        "updated_at": sa.bindparam("moment", type_=c.updated_at.type),
    }


def change(store: Store, conversation_id: str, values: Mapping[str, Any]) -> ConversationRow:
    """Set columns of a locked conversation and step its version."""
    parameters = {f"set_{name}": value for name, value in values.items()}
    parameters.update(key=conversation_id, moment=now(), new_rev=new_rev())
    changed = store.execute(_change(store.models, store.system, tuple(values)), parameters).one()
    store.record_change(changed.id, changed.version, changed.rev)
    return changed


@statement
def _change(models: Models, system: bool, names: tuple[str, ...]) -> Any:
    c = models.Conversation.__table__.c
    values = {name: sa.bindparam(f"set_{name}", type_=c[name].type) for name in names}
    return (
        sa.update(models.Conversation.__table__)
        .where(keyed(models, "id"), mine(models, system))
        .values({**_stepped(models), **values})
        .returning(*conversation_columns(models))
    )


def complete(store: Store, inserted: ConversationRow, values: Mapping[str, Any]) -> ConversationRow:
    """Set columns of a conversation that this transaction has inserted: others never see it without them."""
    parameters = {f"set_{name}": value for name, value in values.items()}
    return store.execute(_complete(store.models, tuple(values)), {**parameters, "conversation": inserted.id}).one()


@statement
def _complete(models: Models, names: tuple[str, ...]) -> Any:
    table = models.Conversation.__table__
    values = {name: sa.bindparam(f"set_{name}", type_=table.c[name].type) for name in names}
    query = sa.update(table).where(table.c.id == _conversation(table.c.id))
    return query.values(values).returning(*conversation_columns(models))


def restore(store: Store, conversation_id: Any) -> ConversationRow | None:
    """Restore a conversation from the trash to the status it had; None if it is not in the trash."""
    id_column, key = store.key(conversation_id)
    query = _restore(store.models, store.dialect, store.system, id_column)
    restored = store.execute(query, {"key": key, "moment": now(), "new_rev": new_rev()}).first()
    if restored is not None:
        store.record_change(restored.id, restored.version, restored.rev)
    return restored


@statement
def _restore(models: Models, dialect: str, system: bool, column: str) -> Any:
    c = models.Conversation.__table__.c
    status = sa.case((c.resolved_at.is_not(None), "resolved"), (c.archived_at.is_not(None), "archived"), else_="active")
    values = {**_stepped(models), "status": status, "deleted_at": None}
    query = sa.update(models.Conversation.__table__).where(
        keyed(models, column), mine(models, system), c.status == "deleted", bounded_lock_wait(dialect)
    )
    return query.values(values).returning(*conversation_columns(models))


def set_tags(store: Store, conversation: ConversationRow, tags: Sequence[str]) -> None:
    """Replace the tags of a conversation in the table that the filter by tag uses."""
    table = store.models.Tag.__table__
    store.execute(_forget(store.models, table), {"conversation": conversation.id})
    if tags:
        owner = {"org_id": conversation.org_id, "user_id": conversation.user_id, "conversation_id": conversation.id}
        store.insert(table, [{**owner, "tag": tag} for tag in tags])


def remove(store: Store, conversation: IdentifiedRow) -> None:
    """Delete a locked conversation and all its rows: SQLite cascades only if the host has switched that on."""
    for model in store.models.of_conversations:
        store.execute(_forget(store.models, model.__table__), {"conversation": conversation.id})
    store.execute(_remove(store.models), {"conversation": conversation.id})
    store.record_change(conversation.id, DELETED_VERSION, 0)


DELETED_VERSION = 0
"""Reported as the version of a deleted conversation."""


@statement
def _forget(models: Models, table: sa.Table) -> Any:
    return sa.delete(table).where(table.c.conversation_id == _conversation(table.c.conversation_id))


@statement
def _remove(models: Models) -> Any:
    table = models.Conversation.__table__
    return sa.delete(table).where(table.c.id == _conversation(table.c.id))


def _conversation(column: Any) -> Any:
    return sa.bindparam("conversation", type_=column.type)


def page(
    store: Store,
    filters: Mapping[str, Any],
    *,
    order: str,
    descending: bool,
    after: Sequence[Any] | None,
    offset: int,
    limit: int,
) -> Sequence[sa.Row[Any]]:
    """The owner's conversations that match *filters*, one more than *limit* if there are more.

    The default order walks the index `ix_conversations_activity`, `updated_at` walks `ix_conversations_updated`.
    """
    shape = (tuple(sorted(filters)), order, descending, after is not None, offset > 0)
    parameters = {f"only_{name}": value for name, value in filters.items()}
    parameters.update(limit=limit + 1, offset=offset)
    if after is not None:
        parameters.update(after_value=after[0], after_id=after[1])
    return store.execute(_page(store.models, store.dialect, store.system, *shape), parameters).all()


@statement
def _page(
    models: Models,
    dialect: str,
    system: bool,
    filters: tuple[str, ...],
    order: str,
    descending: bool,
    continued: bool,
    offset: bool,
) -> Any:
    c = models.Conversation.__table__.c
    key = _title_as_shown(c, dialect) if order == "title" else c[order]
    listed = [c[name] for name in conversation_schema.LISTED]
    query = sa.select(*listed).where(mine(models, system), *_filters(models, filters))
    if continued:
        here = sa.tuple_(key, c.id)
        there = sa.tuple_(sa.bindparam("after_value", type_=c[order].type), sa.bindparam("after_id", type_=c.id.type))
        query = query.where(here < there if descending else here > there)
    query = query.order_by(*([key.desc(), c.id.desc()] if descending else [key, c.id]))
    query = query.limit(sa.bindparam("limit", type_=sa.Integer))
    return query.offset(sa.bindparam("offset", type_=sa.BigInteger)) if offset else query


def _title_as_shown(c: Any, dialect: str) -> sa.ColumnElement[str]:
    """The title as the JSON has it, by code points: a collation of the database's would differ from server to server."""
    shown = sa.func.coalesce(c.title, constant(DEFAULT_TITLE))
    return sa.collate(shown, "C" if dialect == "postgresql" else "BINARY")


def _filters(models: Models, names: tuple[str, ...]) -> list[sa.ColumnElement[bool]]:
    c = models.Conversation.__table__.c
    t = models.Tag.__table__.c
    conditions = [
        c[name] == sa.bindparam(f"only_{name}", type_=c[name].type) for name in names if name not in ("status", "tag")
    ]
    # every visible status by name rather than "not deleted", so that the index on status serves
    any_status = c.status.in_(("active", "archived", "resolved"))
    conditions.append(c.status == sa.bindparam("only_status", type_=sa.String) if "status" in names else any_status)
    if "tag" in names:
        tagged = sa.select(t.conversation_id).where(
            t.user_id == c.user_id, t.org_id == c.org_id, t.tag == sa.bindparam("only_tag", type_=sa.String)
        )
        conditions.append(c.id.in_(tagged.correlate(models.Conversation.__table__)))
    return conditions


def claim(store: Store, guest: Mapping[str, str]) -> Sequence[ConversationRow]:
    """Move a guest's conversations, the trash included, to this identity; all of a conversation's rows follow."""
    tables = store.models
    owner: dict[str, Any] = {"to_org": store.owner["org_id"], "to_user": store.owner["user_id"]}
    parameters = {**owner, "from_org": guest["org_id"], "from_user": guest["user_id"]}
    parameters.update(moment=now(), new_rev=new_rev())
    store.execute(_collisions(tables, store.dialect), parameters)
    # the conversations first: this waits for writers, and locks new ones out
    moved = store.execute(_claim(tables), parameters).all()
    for start in range(0, len(moved), _BATCH_SIZE):
        parameters["ids"] = [row.id for row in moved[start : start + _BATCH_SIZE]]
        for model in tables.owned:
            store.execute(_handed_over(tables, model.__table__), parameters)
    for row in moved:
        store.record_change(row.id, row.version, row.rev)
    return moved


_BATCH_SIZE = 500
"""How many ids one statement takes: databases bound the number of parameters."""


def _from(c: Any) -> sa.ColumnElement[bool]:
    return sa.and_(c.user_id == sa.bindparam("from_user"), c.org_id == sa.bindparam("from_org"))


@statement
def _collisions(models: Models, dialect: str) -> Any:
    """Clear a client id that both owners use from the guest's conversation, which keeps its own id."""
    table = models.Conversation.__table__
    c, theirs = table.c, table.alias("theirs")
    same = sa.select(sa.literal(1)).where(
        theirs.c.user_id == sa.bindparam("to_user"),
        theirs.c.org_id == sa.bindparam("to_org"),
        theirs.c.client_id == c.client_id,
    )
    clashing = sa.update(table).where(_from(c), c.client_id.is_not(None), same.exists(), bounded_lock_wait(dialect))
    return clashing.values(client_id=None)


@statement
def _handed_over(models: Models, table: sa.Table) -> Any:
    these = sa.bindparam("ids", expanding=True, type_=table.c.conversation_id.type)
    return sa.update(table).where(table.c.conversation_id.in_(these)).values(_to())


@statement
def _claim(models: Models) -> Any:
    table = models.Conversation.__table__
    return (
        sa.update(table)
        .where(_from(table.c))
        .values({**_stepped(models), **_to()})
        .returning(*conversation_columns(models))
    )


def _to() -> dict[str, Any]:
    return {"user_id": sa.bindparam("to_user"), "org_id": sa.bindparam("to_org")}


def overdue(
    store: Store, *, trash_before: dt.datetime, temporary_before: dt.datetime, limit: int, locked: bool
) -> Sequence[IdentifiedRow]:
    """Conversations whose time in the trash, or as temporary ones, is over.

    With *locked* they stay overdue until this transaction ends, and those that another transaction has locked are left out.
    """
    parameters = {"trash_before": trash_before, "temporary_before": temporary_before, "limit": limit}
    query = _overdue(store.models, store.system, store.dialect if locked else None)
    return store.execute(query, parameters).all()


@statement
def _overdue(models: Models, system: bool, locking_on: str | None) -> Any:
    c = models.Conversation.__table__.c
    moment = c.updated_at.type
    in_trash = sa.and_(c.status == "deleted", c.deleted_at < sa.bindparam("trash_before", type_=moment))
    forgotten = sa.and_(c.temporary, c.updated_at < sa.bindparam("temporary_before", type_=moment))
    query = (
        sa.select(c.id)
        .where(mine(models, system), sa.or_(in_trash, forgotten))
        .order_by(c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
    return query.where(bounded_lock_wait(locking_on)).with_for_update(skip_locked=True) if locking_on else query


def set_version(store: Store, conversation: ConversationRow, version: int) -> None:
    """Set the version of a locked conversation: several statements of one call are one step."""
    store.execute(_set_version(store.models), {"conversation": conversation.id, "the_version": version})
    store.record_change(conversation.id, version, 0)


@statement
def _set_version(models: Models) -> Any:
    table = models.Conversation.__table__
    version = sa.bindparam("the_version", type_=sa.BigInteger)
    return sa.update(table).where(table.c.id == _conversation(table.c.id)).values(version=version)
