"""The newest messages of a conversation, from the cache or else from the database, which fills the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .. import transaction
from ..cache import Cache, Entry, Found, Lease, owner_tag
from ..schemas import messages as schema
from ..schemas import rules
from ..store import conversations as conversation_rows
from ..store import db_errors
from ..store import messages as rows
from .unit_of_work import UnitOfWork


class Window(NamedTuple):
    """The newest messages at one version, the newest first: a cache entry, or rows with *columns*."""

    conversation_id: str
    version: int
    entry: Entry | None
    rows: Sequence[Any]
    columns: tuple[str, ...]
    branched: bool | None = None
    """Whether the conversation has more than one branch; None if the cache entry does not say."""


def newest(
    work: UnitOfWork,
    conversation_id: str,
    wanted: int,
    min_version: int | None,
    columns: tuple[str, ...] = rows.STORED,
    *,
    one_more: bool = False,
) -> Window:
    """The newest *wanted* messages, or all if there are fewer. Raises `ConversationNotFound`.

    Rows have at least *columns*. *one_more* reads one further row, which shows that there are more messages; a cache entry
    knows that without it.
    """
    backend, identity = work.backend, work.identity
    cache = backend.cache
    limit = wanted + one_more
    own_id = rules.uuid_or_none(conversation_id) if cache is not None and identity is not None else None
    if (
        cache is None
        or identity is None
        or own_id is None
        or not _can_use_cache(work, backend.scoped_session(), own_id)
    ):
        return _from_database(work, conversation_id, limit, columns)
    owner = owner_tag(identity.org_id, identity.user_id)
    found = cache.read(own_id, owner, wanted, limit, min_version or 0)
    if found.entry is not None and cache.strict:
        found = _confirm(work, cache, found.entry, owner, wanted)
    if found.entry is not None:
        return Window(own_id, found.entry.version, found.entry, (), ())
    if found.lease is not None:
        return _read_and_fill(work, cache, found.lease, own_id, owner, limit)
    return _from_database(work, own_id, limit, columns)


def _can_use_cache(work: UnitOfWork, session: Session, own_id: str) -> bool:
    """False if this transaction has changed the conversation, or must not see later commits."""
    if not session.in_transaction():
        return True
    if any(change.conversation_id == own_id for change in transaction.changes(session)):
        return False
    return work.store.sees_commits


def _confirm(work: UnitOfWork, cache: Cache, entry: Entry, owner: str, wanted: int) -> Found:
    """The entry if the database has the same version, else the lease to refill it, if one is free."""
    own_id = entry.conversation_id
    now = conversation_rows.version_of(work.store, own_id)
    if now == (entry.version, entry.rev):
        return Found(entry)
    if now is None or now[0] <= entry.version:
        cache.forget_disagreeing(own_id)
        return Found()
    # the entry is outdated; its replacement would have to be confirmed again
    return Found(lease=cache.read(own_id, owner, wanted, wanted, now[0]).lease)


def _from_database(work: UnitOfWork, conversation_id: str, wanted: int, columns: tuple[str, ...]) -> Window:
    found = rows.newest(work.store, conversation_id, limit=wanted, columns=columns)
    if found is None:
        raise work.store.missing(conversation_id)
    return Window(found.conversation_id, found.version, None, found.rows, columns, found.branched)


def _read_and_fill(work: UnitOfWork, cache: Cache, lease: Lease, own_id: str, owner: str, wanted: int) -> Window:
    """Read the messages for an entry, and fill it. A shared lock keeps writers out if the transaction is our own."""
    own = not work.session.in_transaction() and transaction.is_outermost(work.session)
    limit = max(wanted, cache.limit)
    try:
        found = rows.newest(work.store, own_id, limit=limit, shared=own)
    except DBAPIError as error:
        cache.release(lease)
        if not db_errors.is_read_only(error) or not own:
            raise
        # a replica may be behind: its rows do not fill the cache
        work.undo()
        return _from_database(work, own_id, wanted, rows.STORED)
    if found is None:
        cache.release(lease)
        raise work.store.missing(own_id)
    if found.exact:
        messages = [schema.dump(row) for row in found.rows[: cache.limit]]
        cache.fill(lease, own_id, owner, found.version, found.rev, messages)
    else:
        cache.release(lease)
    return Window(own_id, found.version, None, found.rows[:wanted], rows.STORED, found.branched)
