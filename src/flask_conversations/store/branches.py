"""The message tree of a conversation: its branches, the siblings of a message, and the messages below one.

The active branch is the conversation's own `branch` and `head_id`. The other ones are rows; a row with the active name only
keeps the time at which that branch was made.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ..models import Models
from ..schemas.common import PREVIEW_LENGTH
from . import Store, keyed, mine, statement, visible
from .messages import STORED, path_query
from .rows import BranchRow, Columns, ConversationRow, ListedBranchRow, MessageRow, SiblingRow, TipRow

BATCH_SIZE = 500
"""Messages of a long path that are in memory at a time."""


def tip(store: Store, conversation_id: Any, name: str) -> TipRow | None:
    """One of the owner's conversations with the `tip_id` of its branch *name*; None without the conversation.

    `.active` is whether that is the active branch, `.known` whether there is such a branch.
    """
    id_column, key = store.key(conversation_id)
    return store.execute(_tip(store.models, store.system, id_column), {"key": key, "branch_name": name}).first()


@statement
def _tip(models: Models, system: bool, column: str) -> Any:
    table, branches = models.Conversation.__table__, models.Branch.__table__
    c, b = table.c, branches.c
    name = sa.bindparam("branch_name", type_=b.name.type)
    active = c.branch == name
    return (
        sa.select(
            c.id,
            c.version,
            c.branched,
            active.label("active"),
            sa.or_(active, b.name.is_not(None)).label("known"),
            sa.case((active, c.head_id), else_=b.head_id).label("tip_id"),
        )
        .select_from(table.outerjoin(branches, sa.and_(b.conversation_id == c.id, b.name == name)))
        .where(keyed(models, column), mine(models, system), visible(models))
    )


def of_conversation(store: Store, conversation: ConversationRow) -> Sequence[ListedBranchRow]:
    """The rows of a conversation's branches by age, each with the beginning of the text of its tip."""
    return store.execute(_of_conversation(store.models), {"conversation": conversation.id}).all()


@statement
def _of_conversation(models: Models) -> Any:
    branches, messages = models.Branch.__table__, models.Message.__table__
    b, m = branches.c, messages.c
    tips = sa.and_(m.conversation_id == b.conversation_id, m.id == b.head_id, m.deleted_at.is_(None))
    text = sa.func.substr(m.content, 1, 2 * PREVIEW_LENGTH).label("text")
    return (
        sa.select(b.name, b.head_id, b.created_at, text)
        .select_from(branches.outerjoin(messages, tips))
        .where(_here(b))
        .order_by(b.created_at, b.name)
    )


def named(store: Store, conversation: ConversationRow, name: str) -> BranchRow | None:
    """The row of one branch of a conversation already found."""
    return store.execute(_named(store.models), {"conversation": conversation.id, "branch_name": name}).first()


@statement
def _named(models: Models) -> Any:
    b = models.Branch.__table__.c
    return sa.select(b.name, b.head_id, b.created_at).where(*_this(b))


def insert(
    store: Store, conversation: ConversationRow, name: str, head_id: str | None, created_at: dt.datetime
) -> bool:
    """A new branch of a locked conversation; False if the name is taken."""
    row = {
        "conversation_id": conversation.id,
        "name": name,
        "org_id": conversation.org_id,
        "user_id": conversation.user_id,
        "head_id": head_id,
        "created_at": created_at,
    }
    table = store.models.Branch.__table__
    return store.insert_unless_taken(table, row, [table.c.name]) is not None


def point(store: Store, conversation: ConversationRow, name: str, head_id: str | None) -> bool:
    """Move the tip of a branch of a locked conversation; False if there is no row of that name."""
    parameters = {"conversation": conversation.id, "branch_name": name, "tip": head_id}
    return bool(store.execute(_point(store.models), parameters).rowcount)


@statement
def _point(models: Models) -> Any:
    table = models.Branch.__table__
    return sa.update(table).where(*_this(table.c)).values(head_id=sa.bindparam("tip", type_=table.c.head_id.type))


def repair(store: Store, conversation: ConversationRow, name: str, head_id: str | None) -> None:
    """Correct the tip and the owner of a branch of a locked conversation."""
    parameters = {"conversation": conversation.id, "branch_name": name, "tip": head_id}
    parameters.update(its_org=conversation.org_id, its_user=conversation.user_id)
    store.execute(_repair(store.models), parameters)


@statement
def _repair(models: Models) -> Any:
    owner: dict[str, Any] = {"org_id": sa.bindparam("its_org"), "user_id": sa.bindparam("its_user")}
    return _point(models).values(owner)


def follow(store: Store, conversation: ConversationRow, heirs: Mapping[str, str | None]) -> None:
    """Move the tips of a locked conversation's branches that are about to be deleted to their heirs."""
    for row in store.execute(_tips(store.models), {"conversation": conversation.id}).all():
        if row.head_id in heirs:
            point(store, conversation, row.name, heirs[row.head_id])


@statement
def _tips(models: Models) -> Any:
    b = models.Branch.__table__.c
    return sa.select(b.name, b.head_id).where(_here(b), b.head_id.is_not(None))


def forget(store: Store, conversation: ConversationRow, name: str) -> None:
    """Remove the row of one branch of a locked conversation."""
    store.execute(_forget(store.models), {"conversation": conversation.id, "branch_name": name})


@statement
def _forget(models: Models) -> Any:
    table = models.Branch.__table__
    return sa.delete(table).where(*_this(table.c))


def forget_all(store: Store, conversation: ConversationRow) -> None:
    """Remove the rows of all branches of a locked conversation."""
    store.execute(_forget_all(store.models), {"conversation": conversation.id})


@statement
def _forget_all(models: Models) -> Any:
    table = models.Branch.__table__
    return sa.delete(table).where(_here(table.c))


def _this(b: Columns) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return _here(b), b.name == sa.bindparam("branch_name", type_=b.name.type)


def _here(columns: Columns) -> sa.ColumnElement[bool]:
    here = sa.bindparam("conversation", type_=columns.conversation_id.type)
    return columns.conversation_id == here


def siblings(store: Store, conversation_id: Any, parents: Collection[str | None]) -> Sequence[SiblingRow]:
    """The live messages that answer one of *parents*, by seq; None among these stands for the root of the conversation.

    Empty for a conversation that never branched, which the same statement checks.
    """
    answered = [parent for parent in parents if parent is not None]
    id_column, key = store.key(conversation_id)
    query = _siblings(store.models, store.system, id_column, None in parents)
    return store.execute(query, {"key": key, "parents": answered}).all()


@statement
def _siblings(models: Models, system: bool, column: str, roots: bool) -> Any:
    c, m = models.Conversation.__table__.c, models.Message.__table__.c
    above = models.Message.__table__.alias("above").c
    parents = sa.bindparam("parents", expanding=True, type_=m.id.type)
    joined = models.Message.__table__.join(models.Conversation.__table__, m.conversation_id == c.id)
    query = (
        sa.select(m.id, m.parent_id)
        .select_from(joined)
        .where(keyed(models, column), mine(models, system), visible(models), c.branched, m.deleted_at.is_(None))
        .order_by(m.seq)
    )
    if roots:
        return query.where(sa.or_(m.parent_id.in_(parents), m.parent_id.is_(None)))
    # no index leads from a parent to its answers, but they all come after the first parent
    first = sa.select(sa.func.min(above.seq)).where(above.conversation_id == c.id, above.id.in_(parents))
    return query.where(
        m.parent_id.in_(parents), m.seq > first.correlate(models.Conversation.__table__).scalar_subquery()
    )


def newest_leaf(store: Store, conversation: ConversationRow, message: MessageRow) -> str:
    """The newest message at or below *message* in a conversation already found; no message answers it."""
    below, newest = {message.id}, message.id
    parameters = {"conversation": conversation.id, "seq": message.seq}
    # parents come before their answers: one pass over the messages behind this one is enough
    for row in store.execute(_behind(store.models), parameters):
        if row.parent_id in below:
            below.add(row.id)
            newest = row.id
    return newest


@statement
def _behind(models: Models) -> Any:
    m = models.Message.__table__.c
    behind = m.seq > sa.bindparam("seq", type_=sa.BigInteger)
    return sa.select(m.id, m.parent_id).where(_here(m), behind, m.deleted_at.is_(None)).order_by(m.seq)


def path(store: Store, conversation: ConversationRow, message: MessageRow) -> Iterator[Sequence[MessageRow]]:
    """The path up to and including *message*, oldest first, in batches.

    One statement, read lazily: it sees no later commits, and locks no rows.
    """
    query = (
        _straight(store.models) if not conversation.branched else path_query(store.models, STORED, False, True, True)
    )
    parameters = {"conversation": conversation.id, "head": message.id, "after": 0, "seq": message.seq}
    options = {"stream_results": True, "yield_per": BATCH_SIZE}
    with store.connection.execute(query, parameters, execution_options=options) as found:
        yield from found.partitions()


@statement
def _straight(models: Models) -> Any:
    m = models.Message.__table__.c
    upto = m.seq <= sa.bindparam("seq", type_=sa.BigInteger)
    return sa.select(*(m[name] for name in STORED)).where(_here(m), upto, m.deleted_at.is_(None)).order_by(m.seq)
