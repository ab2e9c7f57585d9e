"""One call, one transaction: who begins it, who commits it, what is tried again, and what an error leaves behind."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy.orm import Session

from .. import transaction
from ..errors import ConversationsError, StorageUnavailable
from ..schemas import rules
from ..store import Store, faults, requests

if TYPE_CHECKING:
    from .base import Base

R = TypeVar("R")
Verb = TypeVar("Verb", bound=Callable[..., Any])

ATTEMPTS = 4
"""How often a call is tried: once, and three times more after a serialization failure, a deadlock or a taken client id."""


def writes(verb: Verb) -> Verb:
    """Make *verb* one short transaction, committed before it returns, or a part of the group or host transaction around it."""

    @functools.wraps(verb)
    def call(self: Base, *args: Any, **kwargs: Any) -> Any:
        with self.context():
            body = _audited(self, verb.__name__, args, kwargs, lambda: verb(self, *args, **kwargs))
            return _write(self, body)

    return cast("Verb", call)


def reads(verb: Verb) -> Verb:
    """Make *verb* a read that leaves no transaction open that was not open before."""

    @functools.wraps(verb)
    def call(self: Base, *args: Any, **kwargs: Any) -> Any:
        with self.context():
            body = _audited(self, verb.__name__, args, kwargs, lambda: verb(self, *args, **kwargs))
            return _read(self, body)

    return cast("Verb", call)


_ACTIONS = {"create_or_replay": "create_conversation", "save_or_replay": "save_message"}
"""Verbs that the query log knows by the name that hosts call them by."""


def _audited(
    service: Base, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], body: Callable[[], R]
) -> Callable[[], R]:
    if not service.config.audit:
        return body

    def audited() -> R:
        started = time.perf_counter()
        result = body()
        subject = _subject(args[0] if args else kwargs.get("conversation_id"), result)
        action = _ACTIONS.get(name, name.lstrip("_"))
        requests.log(service.store, action, subject, (time.perf_counter() - started) * 1000)
        return result

    return audited


def _subject(given: Any, result: Any) -> str | None:
    """The id of the conversation a call was about, as far as the call shows it."""
    result = getattr(result, "result", result)
    if isinstance(result, list) and result:
        result = result[0]
    found = result.get("conversation_id") or result.get("id") if isinstance(result, dict) else None
    return rules.uuid_or_none(found) or rules.uuid_or_none(given)


def _read(service: Base, body: Callable[[], R]) -> R:
    session = service.session
    mine = not session.in_transaction() and not transaction.is_joined(session)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            result = body()
            if mine:
                session.commit()
            return result
        except BaseException as error:
            if mine:
                session.rollback()
                if attempt < ATTEMPTS and faults.is_transient(error):
                    continue
            _raise(error)
    raise AssertionError("the last attempt returns or raises")


def _write(service: Base, body: Callable[[], R]) -> R:
    session = service.session
    with _settled(session):
        session.flush()
    if transaction.is_grouped(session) or service.leaves_commit_to_host:
        return _in_savepoint(service, body)
    if session.in_transaction():
        result = _in_savepoint(service, body)
        commit(session)
        return result
    return _in_own_transaction(service, body)


@contextlib.contextmanager
def _settled(session: Session) -> Iterator[None]:
    """A host's own pending change that fails to flush is the host's error: it passes through unchanged."""
    try:
        yield
    except BaseException:
        session.rollback()
        raise


def _in_own_transaction(service: Base, body: Callable[[], R]) -> R:
    session = service.session
    for attempt in range(1, ATTEMPTS + 1):
        try:
            begin(service.store)
            result = body()
        except BaseException as error:
            session.rollback()
            if attempt < ATTEMPTS and (faults.is_transient(error) or faults.is_duplicate(error)):
                continue
            _raise(error)
        else:
            commit(session)
            return result
    raise AssertionError("the last attempt returns or raises")


def _in_savepoint(service: Base, body: Callable[[], R]) -> R:
    """Run *body* so that its failure undoes itself only: what the host or the group did before it stays."""
    session = service.session
    for attempt in range(1, ATTEMPTS + 1):
        try:
            begin(service.store)
            with session.begin_nested():
                return body()
        except BaseException as error:
            if attempt < ATTEMPTS and faults.is_duplicate(error):
                continue
            _raise(error)
    raise AssertionError("the last attempt returns or raises")


def begin(store: Store) -> None:
    """Open the write transaction. SQLite takes its lock now: a reader that turns into a writer fails without waiting."""
    connection = store.connection
    if connection.dialect.name != "sqlite":
        return
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except driver_error(driver) as error:
            store.session.rollback()
            raise StorageUnavailable("Somebody else holds the database lock for too long.") from error


def driver_error(driver: Any) -> type[Exception]:
    """The class of the driver's operational errors, reached through the connection as PEP 249 offers."""
    return driver.OperationalError  # type: ignore[no-any-return]


def commit(session: Session) -> None:
    """Commit, and let no failure look like success: an error at the very commit leaves the outcome unknown."""
    try:
        session.commit()
    except BaseException as error:
        session.rollback()
        if faults.is_duplicate(error):
            # ours were found out before: this one is the host's own
            raise
        _raise(error)


def _raise(error: BaseException) -> None:
    known = None if isinstance(error, ConversationsError) else faults.translated(error)
    if known is None:
        raise error
    raise known from error


@contextlib.contextmanager
def group(service: Base) -> Iterator[None]:
    """Calls inside are one transaction, committed at the end of the outermost group, rolled back as a whole on an error."""
    session = service.session
    with transaction.grouped(session) as outermost:
        try:
            yield
        except BaseException:
            if outermost and not service.leaves_commit_to_host:
                session.rollback()
            raise
    if outermost and not service.leaves_commit_to_host:
        commit(session)
