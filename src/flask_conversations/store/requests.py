"""Two tables about requests: the answers kept for an Idempotency-Key, and the query log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ..ids import new_id, now
from ..models import Models
from . import Store, bounded_lock_wait, owned_by_me, statement
from .rows import AnswerRow, Columns


def reserve(store: Store, scope: str, key: str, fingerprint: str, *, kept_since: dt.datetime) -> bool:
    """Take an idempotency key for this transaction; False if another request has it.

    The second caller waits for the first to commit, and then finds its answer. Keys older than *kept_since* are free again.
    """
    table = store.models.Idempotency.__table__
    expire(store, kept_since=kept_since)
    row = {**store.owner, "scope": scope, "key": key, "fingerprint": fingerprint, "created_at": now()}
    return store.insert_unless_taken(table, row, [table.c.key]) is not None


def expire(store: Store, *, kept_since: dt.datetime) -> None:
    """Delete the owner's keys from before *kept_since*; as the system, those of all owners."""
    store.execute(_expire(store.models, store.dialect, store.system), {"kept_since": kept_since})


@statement
def _expire(models: Models, dialect: str, system: bool) -> Any:
    table = models.Idempotency.__table__
    c = table.c
    old = c.created_at < sa.bindparam("kept_since", type_=c.created_at.type)
    query = sa.delete(table).where(old, bounded_lock_wait(dialect))
    if system:
        return query
    return query.where(owned_by_me(c))


def answered(store: Store, scope: str, key: str) -> AnswerRow | None:
    """The fingerprint and answer kept for a key; None if the request that took it was rolled back."""
    return store.execute(_answered(store.models), {"the_scope": scope, "the_key": key}).first()


def _this_key(c: Columns) -> sa.ColumnElement[bool]:
    return sa.and_(owned_by_me(c), c.scope == sa.bindparam("the_scope"), c.key == sa.bindparam("the_key"))


@statement
def _answered(models: Models) -> Any:
    c = models.Idempotency.__table__.c
    return sa.select(c.fingerprint, c.answer).where(_this_key(c))


def answer(store: Store, scope: str, key: str, body: Mapping[str, Any], conversation_id: str | None) -> None:
    """Keep the answer, in the transaction of the effect. It is deleted together with the conversation that it shows."""
    parameters = {"the_scope": scope, "the_key": key, "body": dict(body), "about": conversation_id}
    store.execute(_answer(store.models), parameters)


@statement
def _answer(models: Models) -> Any:
    table = models.Idempotency.__table__
    body = sa.bindparam("body", type_=table.c.answer.type)
    about = sa.bindparam("about", type_=table.c.conversation_id.type)
    return sa.update(table).where(_this_key(table.c)).values(answer=body, conversation_id=about)


def log(store: Store, action: str, conversation_id: str | None, duration_ms: float) -> None:
    """One row of the query log."""
    identity = store.identity
    row = {
        "id": new_id(),
        "org_id": (identity.org_id or "") if identity else "",
        "user_id": identity.user_id if identity else "(system)",
        "session_id": identity.session_id if identity else None,
        "conversation_id": conversation_id,
        "action": action,
        "duration_ms": duration_ms,
        "created_at": now(),
    }
    store.insert(store.models.QueryLog.__table__, [row])
