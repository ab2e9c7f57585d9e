"""The queries of `verify`: the conversations in order, their messages in windows, and orphaned rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from ..models import Models
from . import Store, mine, statement
from .rows import Columns


class ExaminedConversation(Protocol):
    """The columns of a conversation that are examined."""

    id: str
    org_id: str
    user_id: str
    status: str
    version: int
    rev: int
    last_seq: int
    message_count: int
    checksum: int
    head_id: str | None
    branched: bool
    branch: str
    preview: str | None
    last_message_at: dt.datetime | None
    tags: Any


CONVERSATION = tuple(ExaminedConversation.__annotations__)


class ExaminedMessage(Protocol):
    """The columns of a message that are examined."""

    conversation_id: str
    seq: int
    id: str
    org_id: str
    user_id: str
    parent_id: str | None
    version: int
    digest: int
    role: str
    content: str
    content_is_parts: bool
    parts: Any
    created_at: dt.datetime
    deleted_at: dt.datetime | None


EXAMINED = tuple(ExaminedMessage.__annotations__)


class ExaminedBranch(Protocol):
    """A branch, with what verify has to know of its tip."""

    conversation_id: str
    name: str
    org_id: str
    user_id: str
    head_id: str | None
    lives: bool
    """Whether the tip is a live message."""
    heir_id: str | None
    """The parent of the tip."""


class ExaminedTag(Protocol):
    """A tag as the filter by tag finds it."""

    conversation_id: str
    tag: str
    org_id: str
    user_id: str


class Orphans(Protocol):
    """How many live messages answer none that is before them, and the first seq of these."""

    first: int | None

    @property
    def count(self) -> Any:
        """An int; a row is a sequence too, and those have a method of that name."""


class StrayRows(Protocol):
    """The rows of a conversation that is not there."""

    conversation_id: str
    number: int


def page(
    store: Store, *, after: str | None, limit: int, owner: Mapping[str, str] | None, only: str | None
) -> Sequence[ExaminedConversation]:
    """The next conversations by id, the trash included; those of one *owner*, or *only* this one."""
    query = _page(store.models, store.system, after is not None, tuple(sorted(owner or ())), only is not None)
    parameters = {"after": after, "limit": limit, "only": only}
    return store.execute(query, {**parameters, **{f"by_{k}": v for k, v in (owner or {}).items()}}).all()


@statement
def _page(models: Models, system: bool, after: bool, owner: tuple[str, ...], only: bool) -> Any:
    c = models.Conversation.__table__.c
    query = sa.select(*(c[name] for name in CONVERSATION)).where(mine(models, system))
    if after:
        query = query.where(c.id > sa.bindparam("after", type_=c.id.type))
    if only:
        query = query.where(c.id == sa.bindparam("only", type_=c.id.type))
    for name in owner:
        query = query.where(c[name] == sa.bindparam(f"by_{name}", type_=c[name].type))
    return query.order_by(c.id).limit(sa.bindparam("limit", type_=sa.Integer))


def sizes(store: Store, ids: Sequence[str]) -> dict[str, int]:
    """How many rows of messages each conversation has, tombstones included; those with none are left out."""
    return {row.conversation_id: row.size for row in store.execute(_sizes(store.models), {"ids": list(ids)})}


@statement
def _sizes(models: Models) -> Any:
    m = models.Message.__table__.c
    query = sa.select(m.conversation_id, sa.func.count().label("size")).where(_of_these(m))
    return query.group_by(m.conversation_id)


def _of_these(columns: Columns) -> sa.ColumnElement[bool]:
    these = sa.bindparam("ids", expanding=True, type_=columns.conversation_id.type)
    return columns.conversation_id.in_(these)


def messages_of(store: Store, ids: Sequence[str]) -> Sequence[ExaminedMessage]:
    """Every message of these conversations, tombstones included, by conversation and seq."""
    return store.execute(_messages_of(store.models), {"ids": list(ids)}).all()


@statement
def _messages_of(models: Models) -> Any:
    m = models.Message.__table__.c
    query = sa.select(*(m[name] for name in EXAMINED)).where(_of_these(m))
    return query.order_by(m.conversation_id, m.seq, m.id)


def window(
    store: Store, conversation_id: str, *, after: tuple[int, str] | None, limit: int
) -> Sequence[ExaminedMessage]:
    """The next messages of one conversation behind a (seq, id), tombstones included."""
    seq, own_id = after or (None, None)
    parameters = {"conversation": conversation_id, "seq": seq, "after": own_id, "limit": limit}
    return store.execute(_window(store.models, after is not None), parameters).all()


@statement
def _window(models: Models, after: bool) -> Any:
    m = models.Message.__table__.c
    query = sa.select(*(m[name] for name in EXAMINED)).where(_here(m))
    if after:
        # where the primary key is missing, two messages may have one seq: the id tells them apart
        seq, own_id = sa.bindparam("seq", type_=sa.BigInteger), sa.bindparam("after", type_=m.id.type)
        query = query.where(m.seq >= seq, sa.or_(m.seq > seq, m.id > own_id))
    return query.order_by(m.seq, m.id).limit(sa.bindparam("limit", type_=sa.Integer))


def _here(columns: Columns) -> sa.ColumnElement[bool]:
    here = sa.bindparam("conversation", type_=columns.conversation_id.type)
    return columns.conversation_id == here


def orphans(store: Store, conversation_id: str) -> Orphans:
    """`.count` live messages of a conversation whose parent is not a live message before them, and the `.first` seq."""
    return store.execute(_orphans(store.models), {"conversation": conversation_id}).one()


@statement
def _orphans(models: Models) -> Any:
    m = models.Message.__table__.c
    parent = models.Message.__table__.alias("parent").c
    found = sa.select(sa.literal(1)).where(
        parent.conversation_id == m.conversation_id,
        parent.id == m.parent_id,
        parent.seq < m.seq,
        parent.deleted_at.is_(None),
    )
    query = sa.select(sa.func.count().label("count"), sa.func.min(m.seq).label("first"))
    return query.where(_here(m), m.parent_id.is_not(None), m.deleted_at.is_(None), ~found.exists())


def tags(store: Store, ids: Sequence[str]) -> Sequence[ExaminedTag]:
    """The tags of these conversations as the filter by tag finds them."""
    return store.execute(_tags(store.models), {"ids": list(ids)}).all()


@statement
def _tags(models: Models) -> Any:
    t = models.Tag.__table__.c
    return sa.select(t.conversation_id, t.tag, t.org_id, t.user_id).where(_of_these(t))


def branches(store: Store, ids: Sequence[str]) -> Sequence[ExaminedBranch]:
    """The branches of these conversations; `.lives` says whether the tip is a live message, `.heir_id` is its parent."""
    return store.execute(_branches(store.models), {"ids": list(ids)}).all()


@statement
def _branches(models: Models) -> Any:
    table, messages = models.Branch.__table__, models.Message.__table__
    b, m = table.c, messages.c
    lives = sa.and_(m.id.is_not(None), m.deleted_at.is_(None)).label("lives")
    return (
        sa.select(b.conversation_id, b.name, b.org_id, b.user_id, b.head_id, lives, m.parent_id.label("heir_id"))
        .select_from(table.outerjoin(messages, sa.and_(m.conversation_id == b.conversation_id, m.id == b.head_id)))
        .where(_of_these(b))
    )


def orphan_rows(store: Store, model: str, *, after: str | None, upto: str | None, limit: int) -> Sequence[StrayRows]:
    """Missing conversations that still have rows of *model*, with the number of rows, between two ids."""
    query = _orphan_rows(store.models, model, after is not None, upto is not None)
    return store.execute(query, {"after": after, "upto": upto, "limit": limit}).all()


@statement
def _orphan_rows(models: Models, model: str, after: bool, upto: bool) -> Any:
    t = getattr(models, model).__table__.c
    query = sa.select(t.conversation_id, sa.func.count().label("number"))
    query = query.where(t.conversation_id.is_not(None), ~_has_conversation(models, t))
    if after:
        query = query.where(t.conversation_id > sa.bindparam("after", type_=t.conversation_id.type))
    if upto:
        query = query.where(t.conversation_id <= sa.bindparam("upto", type_=t.conversation_id.type))
    query = query.group_by(t.conversation_id).order_by(t.conversation_id)
    return query.limit(sa.bindparam("limit", type_=sa.Integer))


def _has_conversation(models: Models, columns: Columns) -> sa.ColumnElement[bool]:
    c = models.Conversation.__table__.c
    return sa.select(sa.literal(1)).where(c.id == columns.conversation_id).exists()


def orphan_rows_of(store: Store, model: str, conversation_id: str) -> int:
    """How many rows of *model* belong to that conversation, if it is not there."""
    count: int = store.execute(_orphan_rows_of(store.models, model), {"conversation": conversation_id}).scalar_one()
    return count


@statement
def _orphan_rows_of(models: Models, model: str) -> Any:
    t = getattr(models, model).__table__.c
    return sa.select(sa.func.count()).where(_here(t), ~_has_conversation(models, t))


def delete_orphan_rows(store: Store, model: str, conversation_id: str) -> int:
    """Delete rows of *model* that belong to a conversation that is not there; how many they were."""
    return store.execute(_delete_orphan_rows(store.models, model), {"conversation": conversation_id}).rowcount


@statement
def _delete_orphan_rows(models: Models, model: str) -> Any:
    table = getattr(models, model).__table__
    return sa.delete(table).where(_here(table.c), ~_has_conversation(models, table.c))
