"""One call, one unit of work: who begins its transaction, who commits it, what is tried again, and what an error leaves behind."""

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
from .backend import Backend
from .cursors import Cursors
from .savepoints import savepoint, undo

logger = logging.getLogger("flask_conversations")

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS = 4
"""How often a call is tried: once, and three times more after a serialization failure, a deadlock or a taken client id."""

PAUSE = 0.01
"""Seconds, at most and times the number of tries, before a call that lost against another is tried again."""

_opened: contextvars.ContextVar[Any] = contextvars.ContextVar("flask_conversations.opened", default=None)
"""The app context that a service made with `app=` has opened, which the calls inside a group share."""


def run_without_group(call: Callable[[], R]) -> R:
    """Run *call* outside the caller's open group, in another thread: a session is for one thread."""
    _opened.set(None)
    return call()


class UnitOfWork:
    """What one call works with: the session, the rows that its identity may see, the settings, and what follows the commit.

    A call that is tried again gets another one.
    """

    __slots__ = ("backend", "config", "identity", "session", "store", "units")

    def __init__(self, units: Units, backend: Backend, session: Session) -> None:
        self.units = units
        self.backend = backend
        self.config = backend.config
        self.identity = units.identity
        self.session = session
        self.store = self.store_of(units.identity)

    def store_of(self, identity: Identity | None) -> Store:
        """The rows that *identity* may see, all for None, on the same session."""
        backend = self.backend
        return Store(
            self.session,
            backend.models,
            identity,
            set_up=backend.set_up,
            lock_timeout=self.config.lock_timeout,
            foreign_status=self.config.foreign_status,
            note=None if backend.cache is None else self._note,
        )

    def undo(self) -> None:
        """Roll the session back and begin anew."""
        undo(self.session)
        self.store = self.store_of(self.identity)

    def act_as(self, identity: Identity) -> None:
        """Go on as another identity, in this call and in those that follow it."""
        self.identity = self.units.identity = identity
        self.store = self.store_of(identity)

    @property
    def cursors(self) -> Cursors:
        """The cursors of this identity."""
        return Cursors(self.backend.secrets, self.identity)

    def _note(self, conversation_id: str, version: int, rev: int) -> None:
        """A statement has brought a conversation to *version*: around the commit the cache follows."""
        cache = self.backend.cache
        assert cache is not None
        transaction.record_change(self.session, self.store.connection, cache, Change(conversation_id, version, rev))

    def appended(
        self, conversation_id: str, version: int, owner: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]
    ) -> None:
        """The step to *version*, noted last, did nothing but append *messages* to the active branch: they can be applied."""
        if self.backend.cache is None:
            return
        for change in transaction.changes(self.session):
            if change.conversation_id == conversation_id:
                if change.version == version:
                    change.append(owner_tag(owner["org_id"], owner["user_id"]), messages[-self.config.cache_limit :])
                return

    def announce(self, signal: Signal, **payload: Any) -> None:
        """Send *signal* once this unit of work is committed."""
        if signal.receivers:
            backend, identity = self.backend, self.identity
            transaction.after_commit(self.session, lambda: _send(signal, backend, identity, payload))


def _send(signal: Signal, backend: Backend, identity: Identity | None, payload: dict[str, Any]) -> None:
    """Send to the receivers in an app context of their own: its session is theirs, and what they write is committed."""
    with backend.app.app_context():
        backend.counters.add("signals")
        signal.send(backend.app, identity=identity, **payload)
        backend.scoped_session.commit()


class _Call(NamedTuple):
    """A rule to apply in a unit of work, and the name that the log knows it by."""

    name: str
    rule: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_audited: bool


class Units:
    """Opens the units of work of one identity; `identity=None` is the system.

    With *app* each call has an app context and a session of its own, in any thread; without, it uses those of the caller.
    """

    def __init__(self, backend: Callable[[], Backend], identity: Identity | None, app: Flask | None = None) -> None:
        self._get_backend = backend
        self._app = app
        self.identity = identity

    def read(self, rule: Callable[Concatenate[UnitOfWork, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Apply *rule*, which only reads, and leave no transaction open that was not open before."""
        return self._run(_read, _Call(rule.__name__, rule, args, kwargs, False))  # type: ignore[no-any-return]

    def write(self, rule: Callable[Concatenate[UnitOfWork, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Apply *rule* as one transaction, committed at the end, or as a part of the group or host transaction around it."""
        return self._run(_write, _Call(rule.__name__, rule, args, kwargs, False))  # type: ignore[no-any-return]

    def read_as(
        self, name: str, rule: Callable[Concatenate[UnitOfWork, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Like `read`, under the *name* of the call that a host has made: it has a row in the query log."""
        return self._run(_read, _Call(name, rule, args, kwargs, True))  # type: ignore[no-any-return]

    def write_as(
        self, name: str, rule: Callable[Concatenate[UnitOfWork, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Like `write`, under the *name* of the call that a host has made: it has a row in the query log."""
        return self._run(_write, _Call(name, rule, args, kwargs, True))  # type: ignore[no-any-return]

    def _run(self, transact: Callable[[Units, Backend, _Call], Any], call: _Call) -> Any:
        if self._app is None and has_app_context():
            return self._run_here(transact, call)
        with self.context():
            return self._run_here(transact, call)

    def _run_here(self, transact: Callable[[Units, Backend, _Call], Any], call: _Call) -> Any:
        backend = self._get_backend()
        with backend.connection_lock:
            if logger.isEnabledFor(logging.DEBUG):
                return _logged(transact, self, backend, call)
            return transact(self, backend, call)

    @property
    def backend(self) -> Backend:
        """That of the app, in any context."""
        if self._app is None and has_app_context():
            return self._get_backend()
        with self.context():
            return self._get_backend()

    @property
    def own(self) -> Units:
        """The same with an app context and a session of its own for each call, for use in any thread."""
        backend = self.backend
        return Units(lambda: backend, self.identity, backend.app)

    def leaves_commit_to_host(self, session: Session) -> bool:
        """Whether a call only flushes what it writes to *session*."""
        # a session that a service with `app=` has opened ends with the call: no host could commit it
        if self._app is None and not self._get_backend().config.autocommit:
            return True
        return transaction.work_of(session).joined > 0

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """The session that a call would use now."""
        with self.context():
            yield self._get_backend().scoped_session()

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """The app context a call runs in: its own for a service made with `app=`, closed again when the call ends."""
        if self._app is None:
            if not has_app_context():
                raise ConfigurationError(
                    "There is no app context here. Pass the app, as in conversations.as_user('ada', app=app), "
                    "or call inside `with app.app_context():`."
                )
            yield
        elif app_ctx and app_ctx.app is self._app and _opened.get() is app_ctx._get_current_object():  # type: ignore[attr-defined]
            yield
        else:
            with self._app.app_context():
                token = _opened.set(app_ctx._get_current_object())  # type: ignore[attr-defined]
                try:
                    yield
                finally:
                    _opened.reset(token)

    @contextlib.contextmanager
    def group(self) -> Iterator[None]:
        """Calls inside are one transaction, committed at the end of the outermost group, undone as a whole on an error.

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
    """Log what a call was about, how long it took and how it ended; never what was said."""
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
    """The id of the conversation that a call was about, as far as the call shows it."""
    result = getattr(result, "result", result)
    if isinstance(result, list) and result:
        result = result[0]
    found = result.get("conversation_id") or result.get("id") if isinstance(result, dict) else None
    given = call.args[0] if call.args else call.kwargs.get("conversation_id")
    return rules.uuid_or_none(found) or rules.uuid_or_none(getattr(given, "conversation_id", given))


def _read(units: Units, backend: Backend, call: _Call) -> Any:
    backend.counters.add("reads")
    session = backend.scoped_session()
    around = transaction.work_of(session)
    own = not (around.joined or around.depth or session.in_transaction())
    tries = _Tries()
    while True:
        try:
            result = _apply(call, UnitOfWork(units, backend, session), tries)
            if own and session.in_transaction():
                session.commit()
            return result
        except BaseException as error:  # noqa: BLE001 - raised again by `_give_up`
            if own:
                undo(session)
            if not tries.again(backend.counters, error, *([db_errors.is_transient] if own else [])):
                _give_up(backend.counters, error)


def _write(units: Units, backend: Backend, call: _Call) -> Any:
    """Apply a rule in a transaction of its own, or in a savepoint of one that the group or the host has open."""
    backend.counters.add("writes")
    session = backend.scoped_session()
    _flush(session)
    hosted = transaction.work_of(session).depth > 0 or units.leaves_commit_to_host(session)
    tries = _Tries()
    while True:
        alone = not session.in_transaction()
        try:
            work = UnitOfWork(units, backend, session)
            result = _in_savepoint(call, work, tries) if hosted or not alone else _straight(call, work, tries)
        except BaseException as error:  # noqa: BLE001 - raised again by `_give_up`
            if alone:
                undo(session)
            if tries.again(
                backend.counters, error, db_errors.is_duplicate, *([db_errors.is_transient] if alone else [])
            ):
                continue
            _give_up(backend.counters, error)
        if hosted or _committed(session, backend.counters, tries, alone=alone):
            return result


class _Tries:
    """What has been tried of one call, and whether it is worth trying again."""

    left = ATTEMPTS - 1
    lenient = False
    """Whether text that is none is read as far as it can be."""

    def again(self, counters: Counters, error: BaseException, *causes: Callable[[BaseException], bool]) -> bool:
        if not self.lenient and lenient.is_unreadable(error):
            self.lenient = True
            return True
        if self.left and any(cause(error) for cause in causes):
            self.left -= 1
            counters.add("retries")
            logger.debug("Trying again (%s).", type(error).__name__)
            if db_errors.is_conflict(error):
                counters.add("conflicts")
                # the winner gets the time to finish; no lock is held meanwhile
                time.sleep(random.uniform(0, PAUSE * (ATTEMPTS - self.left)))
            return True
        return False


def _give_up(counters: Counters, error: BaseException) -> NoReturn:
    """Raise our own error for what the database has said, if there is one, else *error* itself."""
    known = None if isinstance(error, ConversationsError) else db_errors.translated(error)
    if isinstance(known, StorageUnavailable):
        counters.add("unavailable")
    if known is None:
        raise error
    raise known from error


def _apply(call: _Call, work: UnitOfWork, tries: _Tries) -> Any:
    around = transaction.work_of(work.session)
    around.depth += (
        1  # a host's hook that writes through the service is a part of this call, not a transaction in its middle
    )
    try:
        if tries.lenient:
            with lenient.readable(work.store.connection):
                return _audited(call, work)
        if call.is_audited and work.config.audit:
            return _audited(call, work)
        return call.rule(work, *call.args, **call.kwargs)
    finally:
        around.depth -= 1


def _audited(call: _Call, work: UnitOfWork) -> Any:
    if not (call.is_audited and work.config.audit):
        return call.rule(work, *call.args, **call.kwargs)
    started = time.perf_counter()
    result = call.rule(work, *call.args, **call.kwargs)
    requests.log(work.store, call.name, _subject(call, result), (time.perf_counter() - started) * 1000)
    return result


def _flush(session: Session) -> None:
    """A host's own pending change that fails to flush is the host's error: it passes through unchanged."""
    try:
        session.flush()
    except BaseException:
        undo(session)
        raise


def _straight(call: _Call, work: UnitOfWork, tries: _Tries) -> Any:
    begin(work.store)
    return _apply(call, work, tries)


def _in_savepoint(call: _Call, work: UnitOfWork, tries: _Tries) -> Any:
    """Apply a rule so that its failure undoes itself only: what the host or the group did before it stays."""
    with _lock_undone(work.store), savepoint(work.store):
        return _apply(call, work, tries)


@contextlib.contextmanager
def _lock_undone(store: Store) -> Iterator[None]:
    """Open the write transaction; after an error in a host's transaction that had only read, release SQLite's lock again."""
    began = begin(store)
    try:
        yield
    except BaseException:
        if began and store.session.in_transaction():
            _driver(store).rollback()
        raise


def _committed(session: Session, counters: Counters, tries: _Tries, *, alone: bool) -> bool:
    """Commit; False if the database undid it and the call can be tried again."""
    try:
        session.commit()
    except BaseException as error:
        undo(session)
        if db_errors.is_conflict(error) or db_errors.is_duplicate(error):
            transaction.commit_rolled_back(session)
        if alone and db_errors.is_conflict(error) and tries.again(counters, error, db_errors.is_conflict):
            return False
        if db_errors.is_duplicate(error):
            # ours were found out before: this one is the host's own
            raise
        _give_up(counters, error)
    return True


def begin(store: Store) -> bool:
    """Open the write transaction. SQLite takes its lock now, since a reader that turns into a writer fails without waiting.

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
    """The driver's own connection: what is said to it is no statement that a host would count or log."""
    return store.connection.connection.driver_connection


def _group(units: Units, backend: Backend) -> Iterator[None]:
    session = backend.scoped_session()
    with transaction.grouped(session) as outermost:
        if not outermost or units.leaves_commit_to_host(session):
            store = UnitOfWork(units, backend, session).store
            with _lock_undone(store), _savepoint_of_group(store, backend.counters):
                yield
            return
        try:
            yield
        except BaseException:
            undo(session)
            raise
    _committed(session, backend.counters, _Tries(), alone=False)


@contextlib.contextmanager
def _savepoint_of_group(store: Store, counters: Counters) -> Iterator[None]:
    """What the caller raises passes through; what the savepoint itself meets with is an error of ours."""
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
        _give_up(counters, error)
