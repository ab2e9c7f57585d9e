"""Work that follows a commit: done once the session's root transaction is really committed, whoever commits it.

SQLAlchemy's `after_commit` also fires for savepoints, forbids SQL, and lets an exception turn a durable commit into an error.
This module hides that: a callback runs after the root transaction has ended, may use the database, and cannot hurt the caller.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, SessionTransaction

logger = logging.getLogger("flask_conversations")

_KEY = "flask_conversations.work"


@dataclasses.dataclass
class _Work:
    """What hangs on one session: how deeply calls are grouped, who commits, and what waits for the commit."""

    depth: int = 0
    joined: int = 0
    committed: SessionTransaction | None = None
    waiting: list[tuple[SessionTransaction | None, Callable[[], None]]] = dataclasses.field(default_factory=list)


def _work(session: Session) -> _Work:
    work = session.info.get(_KEY)
    if work is None:
        work = session.info[_KEY] = _Work()
    return work


def listen(session_factory: Any) -> None:
    """Watch the sessions of *session_factory* (a `scoped_session` or `sessionmaker`); once is enough."""
    for name, listener in (
        ("after_commit", _after_commit),
        ("after_transaction_end", _after_end),
    ):
        if not sa.event.contains(session_factory, name, listener):
            sa.event.listen(session_factory, name, listener)


def after_commit(session: Session, callback: Callable[[], None]) -> None:
    """Call *callback* once the outermost transaction is really committed; never if this part of it is rolled back."""
    tag = session.get_nested_transaction() or session.get_transaction()
    _work(session).waiting.append((tag, callback))


@contextlib.contextmanager
def grouped(session: Session) -> Iterator[bool]:
    """Calls inside belong to one group, seen by every service on this session; yields whether this is the outermost."""
    work = _work(session)
    work.depth += 1
    try:
        yield work.depth == 1
    finally:
        work.depth -= 1


@contextlib.contextmanager
def joined(session: Session) -> Iterator[None]:
    """Calls inside leave the commit to the host."""
    work = _work(session)
    work.joined += 1
    try:
        yield
    finally:
        work.joined -= 1


def is_grouped(session: Session) -> bool:
    return _work(session).depth > 0


def is_joined(session: Session) -> bool:
    return _work(session).joined > 0


def _after_commit(session: Session) -> None:
    # fires for savepoints too, and before the transaction ends
    if _KEY in session.info:
        _work(session).committed = session.get_nested_transaction() or session.get_transaction()


def _after_end(session: Session, ended: SessionTransaction) -> None:
    """What waits for a savepoint waits for the transaction around it, unless the savepoint was rolled back."""
    if _KEY not in session.info or not (ended.nested or ended.parent is None):
        return
    work = _work(session)
    done, work.committed = work.committed is ended, None
    if ended.parent is not None:
        work.waiting = [
            (ended.parent if tag is ended else tag, callback)
            for tag, callback in work.waiting
            if done or tag is not ended
        ]
        return
    waiting, work.waiting = work.waiting, []
    for _, callback in waiting if done else ():
        _run(callback)


def _run(callback: Callable[[], None]) -> None:
    # the rows are durable: nothing that fails here may look like a failed commit
    try:
        callback()
    except Exception:
        logger.exception("Something failed after a commit; the commit stands.")
