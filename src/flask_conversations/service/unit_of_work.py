"""Each call is one unit of work: how its transaction begins and is committed, retries, and the rollback after an error."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, NamedTuple, NoReturn, ParamSpec, TypeVar

from blinker import Signal
from flask import Flask, has_app_context
from flask.globals import app_ctx
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .. import transaction
from ..cache import Change, owner_tag
from ..counters import Counters
from ..errors import ConfigurationError, ConversationsError, StorageUnavailable
from ..identity.base import Identity
from ..schemas import rules
from ..store import Store, db_errors, lenient, requests
from ..transaction import SessionWork
from .backend import Backend
from .cursors import Cursors
from .savepoints import savepoint, undo

logger = logging.getLogger("flask_conversations")

_HERE = contextlib.nullcontext()

P = ParamSpec("P")
R = TypeVar("R")

MAX_ATTEMPTS = 4
"""Attempts per call: up to three retries after a serialization failure, a deadlock or a duplicate client id."""

RETRY_DELAY = 0.01
"""Maximum delay in seconds before the first retry after a conflict; it grows by as much with each attempt."""

_opened_context: contextvars.ContextVar[Any] = contextvars.ContextVar("flask_conversations.opened", default=None)
"""The app context that a service with `app=` has opened; the calls inside a group share it."""


def run_without_group(call: Callable[[], R]) -> R:
    """Run *call* in a new thread outside the caller's open group: a session belongs to one thread."""
    _opened_context.set(None)
    return call()


class UnitOfWork:
    """The session, store and settings of one call, and its actions after the commit. Each attempt gets its own."""

    __slots__ = ("backend", "config", "identity", "session", "store", "units")

    def __init__(self, units: Units, backend: Backend, session: Session) -> None:
        self.units = units
        self.backend = backend
        self.config = backend.config
        self.identity = units.identity
        self.session = session
        self.store = self.store_of(units.identity)

    def store_of(self, identity: Identity | None) -> Store:
        """The rows of *identity*, or all rows for None, on the same session."""
        backend = self.backend
        return Store(
            self.session,
            backend.models,
            identity,
            set_up=backend.set_up,
            lock_timeout=self.config.lock_timeout,
            foreign_status=self.config.foreign_status,
            on_change=None if backend.cache is None else self._record_change,
        )

    def undo(self) -> None:
        """Roll the session back and begin again."""
        undo(self.session)
        self.store = self.store_of(self.identity)

    def act_as(self, identity: Identity) -> None:
        """Change the identity of this call and of all later ones."""
        self.identity = self.units.identity = identity
        self.store = self.store_of(identity)

    @property
    def cursors(self) -> Cursors:
        """The cursors of this identity."""
        return Cursors(self.backend.secrets, self.identity)

    def _record_change(self, conversation_id: str, version: int, rev: int) -> None:
        """Record that a conversation has reached *version*: the cache is invalidated around the commit."""
        cache = self.backend.cache
        assert cache is not None
        transaction.record_change(self.session, self.store.connection, cache, Change(conversation_id, version, rev))

    def mark_as_append(
        self, conversation_id: str, version: int, owner: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]
    ) -> None:
        """Record that the change to *version* only appended *messages*: the cache can apply them to its entry."""
        if self.backend.cache is None:
            return
        for change in transaction.changes(self.session):
            if change.conversation_id == conversation_id:
                if change.version == version:
                    change.append(owner_tag(owner["org_id"], owner["user_id"]), messages[-self.config.cache_limit :])
                return

    def announce(self, signal: Signal, **payload: Any) -> None:
        """Send *signal* after the commit of this unit of work."""
        if signal.receivers:
            backend, identity = self.backend, self.identity
            transaction.after_commit(self.session, lambda: _send(signal, backend, identity, payload))


def _send(signal: Signal, backend: Backend, identity: Identity | None, payload: dict[str, Any]) -> None:
    """Send in a separate app context, and commit the writes of the receivers."""
    with backend.app.app_context():
        backend.counters.add("signals")
        signal.send(backend.app, identity=identity, **payload)
        backend.scoped_session.commit()


class _Call(NamedTuple):
    """A rule to apply in a unit of work, and its name in the log."""

    name: str
    rule: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_audited: bool


class Units:
    """Opens the units of work of one identity; `identity=None` is the system.

    With *app* each call has its own app context and session, in any thread; without, it uses those of the caller.
    """

    def __init__(self, backend: Callable[[], Backend], identity: Identity | None, app: Flask | None = None) -> None:
        self._get_backend = backend
        self._app = app
        self.identity = identity

    def read(self, rule: Callable[Concatenate[UnitOfWork, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Apply *rule*, which only reads, and end the transaction if this call began it."""
        return self._run(_read, _Call(rule.__name__, rule, args, kwargs, False))  # type: ignore[no-any-return]

    def write(self, rule: Callable[Concatenate[UnitOfWork, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Apply *rule* as one transaction, committed at the end, or as a part of the group or host transaction around it."""
        return self._run(_write, _Call(rule.__name__, rule, args, kwargs, False))  # type: ignore[no-any-return]

    def read_as(
        self, name: str, rule: Callable[Concatenate[UnitOfWork, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Like `read`, under the *name* of a public call, which the query log records."""
        return self._run(_read, _Call(name, rule, args, kwargs, True))  # type: ignore[no-any-return]

    def write_as(
        self, name: str, rule: Callable[Concatenate[UnitOfWork, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Like `write`, under the *name* of a public call, which the query log records."""
        return self._run(_write, _Call(name, rule, args, kwargs, True))  # type: ignore[no-any-return]

    def _run(self, transact: Callable[[Units, Backend, _Call], Any], call: _Call) -> Any:
        with _HERE if self._app is None and has_app_context() else self.context():
            backend = self._get_backend()
            with backend.connection_lock:
                if logger.isEnabledFor(logging.DEBUG):
                    return _logged(transact, self, backend, call)
                return transact(self, backend, call)

    @property
    def backend(self) -> Backend:
        """The backend of the app, in any context."""
        if self._app is None and has_app_context():
            return self._get_backend()
        with self.context():
            return self._get_backend()

    @property
    def own(self) -> Units:
        """The same units with a separate app context and session for each call, for use in any thread."""
        backend = self.backend
        return Units(lambda: backend, self.identity, backend.app)

    def leaves_commit_to_host(self, backend: Backend, outer: SessionWork) -> bool:
        """Whether a call only flushes its writes to the session of *outer*."""
        # a service with `app=` closes its session at the end of the call, so that a host could not commit it
        return outer.joined > 0 or (self._app is None and not backend.config.autocommit)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """The session that a call would use now."""
        with self.context():
            yield self._get_backend().scoped_session()

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """The app context of a call. A service with `app=` opens one and closes it when the call ends."""
        if self._app is None:
            if not has_app_context():
                raise ConfigurationError(
                    "There is no app context here. Pass the app, as in conversations.as_user('ada', app=app), "
                    "or call inside `with app.app_context():`."
                )
            yield
        elif app_ctx and app_ctx.app is self._app and _opened_context.get() is app_ctx._get_current_object():  # type: ignore[attr-defined]
            yield
        else:
            with self._app.app_context():
                token = _opened_context.set(app_ctx._get_current_object())  # type: ignore[attr-defined]
                try:
                    yield
                finally:
                    _opened_context.reset(token)

    @contextlib.contextmanager
    def group(self) -> Iterator[None]:
        """Calls inside are one transaction: committed at the end of the outermost group, rolled back on an error.

        A group inside another, or inside a transaction of the host, is a savepoint of it.
        """
        with self.context():
            backend = self._get_backend()
            with backend.connection_lock:
                yield from _group(self, backend)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Calls inside only flush; the host commits."""
        with self.session() as session, transaction.joined(session):
            yield


def _logged(transact: Callable[[Units, Backend, _Call], Any], units: Units, backend: Backend, call: _Call) -> Any:
    """Log the conversation, the duration and the outcome of a call; never content."""
    started = time.perf_counter()
    result, outcome = None, "ended"
    try:
        result = transact(units, backend, call)
        return result
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        milliseconds = (time.perf_counter() - started) * 1000
        logger.debug("%s of %s: %s after %.1f ms.", call.name, _subject(call, result) or "-", outcome, milliseconds)


def _subject(call: _Call, result: Any) -> str | None:
    """The id of the conversation of a call; None if neither result nor arguments have it."""
    result = getattr(result, "result", result)
    if isinstance(result, list) and result:
        result = result[0]
    found = result.get("conversation_id") or result.get("id") if isinstance(result, dict) else None
    given = call.args[0] if call.args else call.kwargs.get("conversation_id")
    return rules.uuid_or_none(found) or rules.uuid_or_none(getattr(given, "conversation_id", given))


def _read(units: Units, backend: Backend, call: _Call) -> Any:
    backend.counters.add("reads")
    session = backend.scoped_session()
    outer = transaction.work_of(session)
    own = not (outer.joined or outer.depth or session.in_transaction())
    attempts = _Attempts()
    while True:
        try:
            result = _apply(call, UnitOfWork(units, backend, session), attempts, outer)
            if own and session.in_transaction():
                session.commit()
            return result
        except BaseException as error:  # noqa: BLE001 - raised again by `_raise_translated`
            if own:
                undo(session)
            if not attempts.should_retry(backend.counters, error, *([db_errors.is_transient] if own else [])):
                _raise_translated(backend.counters, error)


def _write(units: Units, backend: Backend, call: _Call) -> Any:
    """Apply a rule in its own transaction, or in a savepoint of the transaction of the group or host."""
    backend.counters.add("writes")
    session = backend.scoped_session()
    _flush(session)
    outer = transaction.work_of(session)
    hosted = outer.depth > 0 or units.leaves_commit_to_host(backend, outer)
    attempts = _Attempts()
    while True:
        # in a transaction that the host has open, a savepoint; the commit below then commits the host's work too
        own = not session.in_transaction()
        try:
            work = UnitOfWork(units, backend, session)
            if hosted or not own:
                result = _in_savepoint(call, work, attempts, outer)
            else:
                begin(work.store)
                result = _apply(call, work, attempts, outer)
        except BaseException as error:  # noqa: BLE001 - raised again by `_raise_translated`
            if own:
                undo(session)
            if attempts.should_retry(
                backend.counters, error, db_errors.is_duplicate, *([db_errors.is_transient] if own else [])
            ):
                continue
            _raise_translated(backend.counters, error)
        if hosted or _commit(session, backend.counters, attempts, own=own):
            return result


class _Attempts:
    """The remaining attempts of one call."""

    left = MAX_ATTEMPTS - 1
    lenient = False
    """Whether invalid text in the database is read with replacement characters."""

    def should_retry(self, counters: Counters, error: BaseException, *causes: Callable[[BaseException], bool]) -> bool:
        if not self.lenient and lenient.is_unreadable(error):
            self.lenient = True
            return True
        if self.left and any(cause(error) for cause in causes):
            self.left -= 1
            counters.add("retries")
            logger.debug("Trying again (%s).", type(error).__name__)
            if db_errors.is_conflict(error):
                counters.add("conflicts")
                # the other transaction gets time to finish; no lock is held meanwhile
                time.sleep(random.uniform(0, RETRY_DELAY * (MAX_ATTEMPTS - self.left)))
            return True
        return False


def _raise_translated(counters: Counters, error: BaseException) -> NoReturn:
    """Raise the package's error for a database error, if there is one, else *error* itself."""
    known = None if isinstance(error, ConversationsError) else db_errors.translated(error)
    if isinstance(known, StorageUnavailable):
        counters.add("unavailable")
    if known is None:
        raise error
    raise known from error


def _apply(call: _Call, work: UnitOfWork, attempts: _Attempts, outer: SessionWork) -> Any:
    # a host's hook that writes through the service is a part of this call, not a transaction in its middle
    outer.depth += 1
    try:
        if attempts.lenient:
            with lenient.readable(work.store.connection):
                return _audited(call, work)
        if call.is_audited and work.config.audit:
            return _audited(call, work)
        return call.rule(work, *call.args, **call.kwargs)
    finally:
        outer.depth -= 1


def _audited(call: _Call, work: UnitOfWork) -> Any:
    if not (call.is_audited and work.config.audit):
        return call.rule(work, *call.args, **call.kwargs)
    started = time.perf_counter()
    result = call.rule(work, *call.args, **call.kwargs)
    requests.log(work.store, call.name, _subject(call, result), (time.perf_counter() - started) * 1000)
    return result


def _flush(session: Session) -> None:
    """Flush the host's pending changes first: their errors pass through unchanged."""
    try:
        session.flush()
    except BaseException:
        undo(session)
        raise


def _in_savepoint(call: _Call, work: UnitOfWork, attempts: _Attempts, outer: SessionWork) -> Any:
    """Apply a rule in a savepoint: its failure does not undo earlier changes of the host or the group."""
    with _lock_released_on_error(work.store), savepoint(work.store):
        return _apply(call, work, attempts, outer)


@contextlib.contextmanager
def _lock_released_on_error(store: Store) -> Iterator[None]:
    """Open the write transaction; after an error in a host's transaction that had only read, release SQLite's lock."""
    began = begin(store)
    try:
        yield
    except BaseException:
        if began and store.session.in_transaction():
            _driver(store).rollback()
        raise


def _commit(session: Session, counters: Counters, attempts: _Attempts, *, own: bool) -> bool:
    """Commit; False if the database rolled back and the call can be tried again."""
    try:
        session.commit()
    except BaseException as error:
        undo(session)
        if db_errors.is_conflict(error) or db_errors.is_duplicate(error):
            transaction.commit_rolled_back(session)
        if own and db_errors.is_conflict(error) and attempts.should_retry(counters, error, db_errors.is_conflict):
            return False
        if db_errors.is_duplicate(error):
            # the rules handle their own duplicates before: this one is the host's
            raise
        _raise_translated(counters, error)
    return True


def begin(store: Store) -> bool:
    """Open the write transaction. SQLite takes its lock now, because a reader that becomes a writer fails without waiting.

    True if it is SQLite and the transaction was not open before.
    """
    if store.dialect != "sqlite":
        return False
    driver = _driver(store)
    if driver.in_transaction:
        return False
    try:
        driver.execute("BEGIN IMMEDIATE")
    except driver.OperationalError as error:
        raise StorageUnavailable("Another transaction holds the database lock for too long.") from error
    return True


def _driver(store: Store) -> Any:
    """The driver's own connection: SQLAlchemy's events do not see its statements."""
    return store.connection.connection.driver_connection


def _group(units: Units, backend: Backend) -> Iterator[None]:
    session = backend.scoped_session()
    with transaction.grouped(session) as outermost:
        if not outermost or units.leaves_commit_to_host(backend, transaction.work_of(session)):
            # before the write transaction: a flush inside it would be undone with the group
            _flush(session)
            store = UnitOfWork(units, backend, session).store
            with _lock_released_on_error(store), _savepoint_of_group(store, backend.counters):
                yield
            return
        try:
            yield
        except BaseException:
            undo(session)
            raise
    _commit(session, backend.counters, _Attempts(), own=False)


@contextlib.contextmanager
def _savepoint_of_group(store: Store, counters: Counters) -> Iterator[None]:
    """Errors of the block pass through; errors of the savepoint itself are translated."""
    raised = False
    try:
        with savepoint(store):
            try:
                yield
            except BaseException:
                raised = True
                raise
    except DBAPIError as error:
        if raised:
            raise
        _raise_translated(counters, error)
