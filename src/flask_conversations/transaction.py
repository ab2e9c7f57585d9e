"""Callbacks around a commit: just before it, and after the commit of the session's root transaction, by the host or by us.

SQLAlchemy's `after_commit` also fires for savepoints, forbids SQL, and lets an exception turn a durable commit into an error.
This module hides that: a callback runs after the root transaction has ended and may use the database; the caller never gets its
errors.
A rolled back savepoint discards the callbacks and changes that were recorded inside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session, SessionTransaction

from .errors import redacted_traceback

logger = logging.getLogger("flask_conversations")

_KEY = "flask_conversations.work"
_ROLLBACKS = "flask_conversations.rollbacks"

T = TypeVar("T")


class CommitHandle(Protocol):
    """The work that an observer began before a commit and ends after it. Its methods never raise."""

    def committed(self) -> None:
        """The transaction is committed."""

    def unknown(self) -> None:
        """The commit has failed with an unknown outcome: the transaction may be committed or not."""

    def rolled_back(self) -> None:
        """The database has rolled the transaction back, although its commit had begun."""


class Change(Protocol):
    """One change of a transaction."""

    def invalidate(self) -> None:
        """A savepoint that the session does not know was rolled back since: the change may not be part of the transaction."""


class CommitObserver(Protocol):
    """A component that keeps a copy of data that transactions change: the cache."""

    def before_commit(self, changes: Iterable[Any]) -> CommitHandle:
        """Prepare for the commit of *changes*: called after the last statement, just before COMMIT."""


@dataclasses.dataclass
class _ObservedChange:
    """A change, its observer, and the number of savepoints that its connection had rolled back until then."""

    observer: CommitObserver
    change: Any
    info: dict[Any, Any]
    rollbacks: int = 0

    def __post_init__(self) -> None:
        self.ignore_rollbacks()

    def ignore_rollbacks(self) -> None:
        """Ignore the savepoints that were rolled back until now."""
        self.rollbacks = self.info.get(_ROLLBACKS, 0)

    def check(self) -> None:
        """Invalidate the change if a savepoint was rolled back since."""
        if self.info.get(_ROLLBACKS, 0) != self.rollbacks:
            self.change.invalidate()
            self.ignore_rollbacks()


@dataclasses.dataclass
class SessionWork:
    """State of one session: the depth of grouped calls, who commits, and the callbacks that wait for the commit."""

    depth: int = 0
    """The number of groups, and of calls, around the code that runs now."""
    joined: int = 0
    """The number of blocks around it that leave the commit to the host."""
    committed: SessionTransaction | None = None
    waiting: list[tuple[SessionTransaction | None, Callable[[], None]]] = dataclasses.field(default_factory=list)
    changes: list[tuple[SessionTransaction | None, _ObservedChange]] = dataclasses.field(default_factory=list)
    handles: list[CommitHandle] = dataclasses.field(default_factory=list)
    unsettled: list[CommitHandle] = dataclasses.field(default_factory=list)
    """Handles of a transaction that has ended without a known commit."""


def work_of(session: Session) -> SessionWork:
    """The state of *session*."""
    work: SessionWork | None = session.info.get(_KEY)
    if work is None:
        work = session.info[_KEY] = SessionWork()
    return work


def listen() -> None:
    """Watch every session of this process; once is enough. A session without calls of ours costs one lookup in its `info`.

    Not the session factory of one app: SQLAlchemy knows the targets of listeners by their `id()`, and does not forget a factory
    that is gone. A later factory at the same address would pass for it and get no listeners.
    """
    for name, listener in (
        ("before_commit", _before_commit),
        ("after_commit", _after_commit),
        ("after_transaction_create", _after_create),
        ("after_transaction_end", _after_end),
    ):
        if not sa.event.contains(Session, name, listener):
            sa.event.listen(Session, name, listener)


def after_commit(session: Session, callback: Callable[[], None]) -> None:
    """Call *callback* once the outermost transaction is really committed; never if this part of it is rolled back."""
    tag = session.get_nested_transaction() or session.get_transaction()
    work_of(session).waiting.append((tag, callback))


def record_change(session: Session, connection: sa.Connection, observer: CommitObserver, change: Change) -> None:
    """Pass *change* to *observer* at the commit of the outermost transaction; never if this part of it is rolled back."""
    tag = session.get_nested_transaction() or session.get_transaction()
    work_of(session).changes.append((tag, _ObservedChange(observer, change, connection.info)))


def watch(engine: sa.Engine) -> None:
    """Count the savepoints that are rolled back on connections of *engine*: a host may have opened one beneath its session."""
    if not sa.event.contains(engine, "rollback_savepoint", _rolled_back):
        sa.event.listen(engine, "rollback_savepoint", _rolled_back)


def _rolled_back(connection: sa.Connection, name: str, context: None) -> None:
    connection.info[_ROLLBACKS] = connection.info.get(_ROLLBACKS, 0) + 1


def changes(session: Session) -> list[Any]:
    """The changes of this transaction so far, the newest first."""
    work = session.info.get(_KEY)
    return [noted.change for _, noted in reversed(work.changes)] if work is not None and work.changes else []


def commit_rolled_back(session: Session) -> None:
    """The database has rolled back the commit that has just failed."""
    work = work_of(session)
    unsettled, work.unsettled = work.unsettled, []
    for handle in unsettled:
        _run(handle.rolled_back)


@contextlib.contextmanager
def grouped(session: Session) -> Iterator[bool]:
    """Group the calls inside for every service on this session; yields whether this is the outermost group."""
    work = work_of(session)
    work.depth += 1
    try:
        yield work.depth == 1
    finally:
        work.depth -= 1


@contextlib.contextmanager
def joined(session: Session) -> Iterator[None]:
    """Leave the commit of the calls inside to the host."""
    work = work_of(session)
    work.joined += 1
    try:
        yield
    finally:
        work.joined -= 1


def is_outermost(session: Session) -> bool:
    """Whether the call in progress is a transaction of its own, which ends with it."""
    work = work_of(session)
    return work.depth <= 1 and not work.joined


def is_free(session: Session) -> bool:
    """Whether no group, no call and no block that leaves the commit to the host is around the code that runs now."""
    work = work_of(session)
    return not (work.depth or work.joined)


def _before_commit(session: Session) -> None:
    # fires for savepoints too
    work: SessionWork | None = session.info.get(_KEY)
    if work is None or not work.changes or session.in_nested_transaction():
        return
    # a host's pending change that cannot be written fails here, where nothing is reserved yet
    session.flush()
    noted, work.changes = work.changes, []
    by_observer: dict[int, tuple[CommitObserver, list[Any]]] = {}
    for _, each in noted:
        each.check()
        by_observer.setdefault(id(each.observer), (each.observer, []))[1].append(each.change)
    for observer, some in by_observer.values():
        work.handles.append(observer.before_commit(some))


def _after_commit(session: Session) -> None:
    # fires for savepoints too, and before the transaction ends
    work: SessionWork | None = session.info.get(_KEY)
    if work is not None:
        work.committed = session.get_nested_transaction() or session.get_transaction()


def _after_create(session: Session, begun: SessionTransaction) -> None:
    work: SessionWork | None = session.info.get(_KEY)
    if work is not None and begun.nested:
        for _, noted in work.changes:
            noted.check()


def _after_end(session: Session, ended: SessionTransaction) -> None:
    """The end of a transaction or savepoint of *session*.

    A released savepoint hands its callbacks and changes to the transaction around it; a rolled back one discards them. A root
    transaction runs its callbacks if it was committed; else the outcome of a commit that had begun is unknown here.
    """
    work: SessionWork | None = session.info.get(_KEY)
    if work is None or not (ended.nested or ended.parent is None):
        return
    done, work.committed = work.committed is ended, None
    if ended.parent is not None:
        for tag, noted in work.changes:
            if tag is ended:
                noted.check()
            # the rollback was inside a savepoint of the session: changes before the savepoint stand
            noted.ignore_rollbacks()
        work.waiting = _handed_up(work.waiting, ended, done)
        work.changes = _handed_up(work.changes, ended, done)
        return
    waiting, work.waiting = work.waiting, []
    handles, work.handles, work.changes = work.handles, [], []
    # the caller, who knows the error, decides whether a failed commit was rolled back
    work.unsettled = [] if done else handles
    for handle in work.unsettled:
        _run(handle.unknown)
    for handle in handles if done else ():
        _run(handle.committed)
    for _, callback in waiting if done else ():
        _run(callback)


def _handed_up(
    noted: list[tuple[SessionTransaction | None, T]], ended: SessionTransaction, done: bool
) -> list[tuple[SessionTransaction | None, T]]:
    return [(ended.parent if tag is ended else tag, what) for tag, what in noted if done or tag is not ended]


def _run(callback: Callable[[], None]) -> None:
    # the rows are durable: a failure here must not look like a failed commit
    try:
        callback()
    except Exception as error:  # noqa: BLE001 - of a host's handler, say
        logger.error("A callback failed after a commit; the commit stands. %s", redacted_traceback(error))
