"""The newest messages of a conversation: from the cache where it may answer, else from the database, which fills the cache."""

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
    """The newest messages as they were at one moment, the newest first: an entry of the cache, or rows with *columns*."""

    conversation_id: str
    version: int
    entry: Entry | None
    rows: Sequence[Any]
    columns: tuple[str, ...]
    branched: bool | None = None
    """Whether the conversation has more than one path; None where only the database could say."""


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

    Rows have at least *columns*. *one_more* is for those who ask whether there is one: an entry that ends after *wanted*
    messages knows by itself.
    """
    backend, identity = work.backend, work.identity
    cache = backend.cache
    limit = wanted + one_more
    own_id = rules.uuid_or_none(conversation_id) if cache is not None and identity is not None else None
    if (
        cache is None
        or identity is None
        or own_id is None
        or not _may_ask_cache(work, backend.scoped_session(), own_id)
    ):
        return _from_database(work, conversation_id, limit, columns)
    owner = owner_tag(identity.org_id, identity.user_id)
    found = cache.read(own_id, owner, wanted, limit, min_version or 0)
    if found.entry is not None and cache.strict:
        found = _confirmed(work, cache, found.entry, owner, wanted)
    if found.entry is not None:
        return Window(own_id, found.entry.version, found.entry, (), ())
    if found.lease is not None:
        return _filling(work, cache, found.lease, own_id, owner, limit)
    return _from_database(work, own_id, limit, columns)


def _may_ask_cache(work: UnitOfWork, session: Session, own_id: str) -> bool:
    """Not where this transaction has changed the conversation itself, or must not see what others have committed."""
    if not session.in_transaction():
        return True
    if any(change.conversation_id == own_id for change in transaction.changes(session)):
        return False
    return work.store.sees_commits


def _confirmed(work: UnitOfWork, cache: Cache, entry: Entry, owner: str, wanted: int) -> Found:
    """The entry if the database has this very version; else perhaps the right to make another one."""
    own_id = entry.conversation_id
    now = conversation_rows.version_of(work.store, own_id)
    if now == (entry.version, entry.rev):
        return Found(entry)
    if now is None or now[0] <= entry.version:
        cache.forget_disagreeing(own_id)
        return Found()
    # another writer was faster, or the entry is old; a newer entry would have to be confirmed again
    return Found(lease=cache.read(own_id, owner, wanted, wanted, now[0]).lease)


def _from_database(work: UnitOfWork, conversation_id: str, wanted: int, columns: tuple[str, ...]) -> Window:
    found = rows.newest(work.store, conversation_id, limit=wanted, columns=columns)
    if found is None:
        raise work.store.missing(conversation_id)
    return Window(found.conversation_id, found.version, None, found.rows, columns, found.branched)


def _filling(work: UnitOfWork, cache: Cache, lease: Lease, own_id: str, owner: str, wanted: int) -> Window:
    """Read what the entry needs, and make it; where the transaction is our own, it keeps writers out meanwhile."""
    alone = not work.session.in_transaction() and transaction.is_outermost(work.session)
    limit = max(wanted, cache.limit)
    try:
        found = rows.newest(work.store, own_id, limit=limit, shared=alone)
    except DBAPIError as error:
        cache.release(lease)
        if not db_errors.is_read_only(error) or not alone:
            raise
        # what a replica says may be old: it is good for this answer only
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
