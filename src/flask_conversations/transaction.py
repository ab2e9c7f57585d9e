"""Work around a commit: just before it and once the session's root transaction is really committed, whoever commits it.

SQLAlchemy's `after_commit` also fires for savepoints, forbids SQL, and lets an exception turn a durable commit into an error.
This module hides that: a callback runs after the root transaction has ended, may use the database, and cannot hurt the caller.
A rolled back savepoint takes with it what was noted inside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session, SessionTransaction

from .errors import without_words

logger = logging.getLogger("flask_conversations")

_KEY = "flask_conversations.work"
_ROLLBACKS = "flask_conversations.rollbacks"

T = TypeVar("T")


class Settlement(Protocol):
    """What a witness has begun before a commit, and has to end after it. None of its calls raises."""

    def settle(self) -> None:
        """The transaction is committed."""

    def lose(self) -> None:
        """Nobody knows whether the transaction is committed: its commit has failed."""

    def undo(self) -> None:
        """The transaction is known to have been rolled back, although its commit had begun."""


class Change(Protocol):
    """Something that a transaction has done."""

    def doubt(self) -> None:
        """A savepoint was rolled back since, which the session does not know: this may or may not be a part of the transaction."""


class Witness(Protocol):
    """Somebody who keeps a copy of what transactions change."""

    def reserving(self, changes: Iterable[Any]) -> Settlement:
        """*changes* are about to be committed: called after the last statement, just before COMMIT."""


@dataclasses.dataclass
class _Noted:
    """A change, who keeps a copy of it, and how many savepoints its connection had rolled back until then."""

    witness: Witness
    change: Any
    info: dict[Any, Any]
    rollbacks: int = 0

    def __post_init__(self) -> None:
        self.look_away()

    def look_away(self) -> None:
        """What was rolled back until now does not concern it."""
        self.rollbacks = self.info.get(_ROLLBACKS, 0)

    def check(self) -> None:
        """Doubt it if anything was rolled back since."""
        if self.info.get(_ROLLBACKS, 0) != self.rollbacks:
            self.change.doubt()
            self.look_away()


@dataclasses.dataclass
class Work:
    """What hangs on one session: how deeply calls are grouped, who commits, and what waits for the commit."""

    depth: int = 0
    """The number of groups, and of calls, around the code that runs now."""
    joined: int = 0
    """The number of blocks around it that leave the commit to the host."""
    committed: SessionTransaction | None = None
    waiting: list[tuple[SessionTransaction | None, Callable[[], None]]] = dataclasses.field(default_factory=list)
    changes: list[tuple[SessionTransaction | None, _Noted]] = dataclasses.field(default_factory=list)
    settlements: list[Settlement] = dataclasses.field(default_factory=list)
    unsettled: list[Settlement] = dataclasses.field(default_factory=list)
    """Those of a transaction that has ended without a commit that anybody saw."""


def work_of(session: Session) -> Work:
    """What hangs on *session*."""
    work: Work | None = session.info.get(_KEY)
    if work is None:
        work = session.info[_KEY] = Work()
    return work


def listen() -> None:
    """Watch every session of this process; once is enough. One that we do no work on pays with a look into its `info`.

    Not the session factory of one app: SQLAlchemy knows the targets of listeners by their `id()`, and does not forget a factory
    that is gone. A later one in the same place in memory would be taken for it, and never be listened to.
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


def witnessed(session: Session, connection: sa.Connection, witness: Witness, change: Change) -> None:
    """Tell *witness* of *change* around the commit of the outermost transaction; never if this part of it is rolled back."""
    tag = session.get_nested_transaction() or session.get_transaction()
    work_of(session).changes.append((tag, _Noted(witness, change, connection.info)))


def watch(engine: sa.Engine) -> None:
    """Count the savepoints that are rolled back on connections of *engine*: a host may have opened one beneath its session."""
    if not sa.event.contains(engine, "rollback_savepoint", _rolled_back):
        sa.event.listen(engine, "rollback_savepoint", _rolled_back)


def _rolled_back(connection: sa.Connection, name: str, context: None) -> None:
    connection.info[_ROLLBACKS] = connection.info.get(_ROLLBACKS, 0) + 1


def changes(session: Session) -> list[Any]:
    """What this transaction has changed so far, for its witnesses, the newest first."""
    work = session.info.get(_KEY)
    return [noted.change for _, noted in reversed(work.changes)] if work is not None and work.changes else []


def undone(session: Session) -> None:
    """The commit that has just failed is known to have been undone by the database."""
    work = work_of(session)
    unsettled, work.unsettled = work.unsettled, []
    for settlement in unsettled:
        _run(settlement.undo)


@contextlib.contextmanager
def grouped(session: Session) -> Iterator[bool]:
    """Calls inside belong to one group, seen by every service on this session; yields whether this is the outermost."""
    work = work_of(session)
    work.depth += 1
    try:
        yield work.depth == 1
    finally:
        work.depth -= 1


@contextlib.contextmanager
def joined(session: Session) -> Iterator[None]:
    """Calls inside leave the commit to the host."""
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
    work: Work | None = session.info.get(_KEY)
    if work is None or not work.changes or session.in_nested_transaction():
        return
    # a host's pending change that cannot be written fails here, where nothing is reserved yet
    session.flush()
    noted, work.changes = work.changes, []
    by_witness: dict[int, tuple[Witness, list[Any]]] = {}
    for _, each in noted:
        each.check()
        by_witness.setdefault(id(each.witness), (each.witness, []))[1].append(each.change)
    for witness, some in by_witness.values():
        work.settlements.append(witness.reserving(some))


def _after_commit(session: Session) -> None:
    # fires for savepoints too, and before the transaction ends
    if _KEY in session.info:
        work_of(session).committed = session.get_nested_transaction() or session.get_transaction()


def _after_create(session: Session, begun: SessionTransaction) -> None:
    work: Work | None = session.info.get(_KEY)
    if work is not None and begun.nested:
        for _, noted in work.changes:
            noted.check()


def _after_end(session: Session, ended: SessionTransaction) -> None:
    """What waits for a savepoint waits for the transaction around it, unless the savepoint was rolled back."""
    if _KEY not in session.info or not (ended.nested or ended.parent is None):
        return
    work = work_of(session)
    done, work.committed = work.committed is ended, None
    if ended.parent is not None:
        for tag, noted in work.changes:
            if tag is ended:
                noted.check()
            # rolled back inside a savepoint of the session: whatever came before the savepoint stands
            noted.look_away()
        work.waiting = _handed_up(work.waiting, ended, done)
        work.changes = _handed_up(work.changes, ended, done)
        return
    waiting, work.waiting = work.waiting, []
    settlements, work.settlements, work.changes = work.settlements, [], []
    # whether a commit that failed has failed is for those to say who know the error
    work.unsettled = [] if done else settlements
    for settlement in work.unsettled:
        _run(settlement.lose)
    for settlement in settlements if done else ():
        _run(settlement.settle)
    for _, callback in waiting if done else ():
        _run(callback)


def _handed_up(
    noted: list[tuple[SessionTransaction | None, T]], ended: SessionTransaction, done: bool
) -> list[tuple[SessionTransaction | None, T]]:
    return [(ended.parent if tag is ended else tag, what) for tag, what in noted if done or tag is not ended]


def _run(callback: Callable[[], None]) -> None:
    # the rows are durable: nothing that fails here may look like a failed commit
    try:
        callback()
    except Exception as error:  # noqa: BLE001 - of a host's handler, say
        logger.error("Something failed after a commit; the commit stands. %s", without_words(error))
