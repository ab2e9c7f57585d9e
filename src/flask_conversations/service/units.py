"""One call, one transaction: who begins it, who commits it, what is tried again, and what an error leaves behind."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .. import transaction
from ..counters import Counters
from ..errors import ConversationsError, StorageUnavailable
from ..schemas import rules
from ..store import Store, faults, requests, spoilt
from .savepoints import savepoint, undo

if TYPE_CHECKING:
    from .base import Base

logger = logging.getLogger("flask_conversations")

R = TypeVar("R")
Verb = TypeVar("Verb", bound=Callable[..., Any])

ATTEMPTS = 4
"""How often a call is tried: once, and three times more after a serialization failure, a deadlock or a taken client id."""

PAUSE = 0.01
"""Seconds, at most and times the number of tries, before a call that lost against another is tried again."""


def writes(verb: Verb) -> Verb:
    """Make *verb* one short transaction, committed before it returns, or a part of the group or host transaction around it."""

    @functools.wraps(verb)
    def call(self: Base, *args: Any, **kwargs: Any) -> Any:
        with self.context(), self.backend.turnstile:
            body = _audited(self, verb.__name__, args, kwargs, lambda: verb(self, *args, **kwargs))
            return _logged(_write, self, body, verb.__name__, args, kwargs)

    return cast("Verb", call)


def reads(verb: Verb) -> Verb:
    """Make *verb* a read that leaves no transaction open that was not open before."""

    @functools.wraps(verb)
    def call(self: Base, *args: Any, **kwargs: Any) -> Any:
        with self.context(), self.backend.turnstile:
            body = _audited(self, verb.__name__, args, kwargs, lambda: verb(self, *args, **kwargs))
            return _logged(_read, self, body, verb.__name__, args, kwargs)

    return cast("Verb", call)


_ACTIONS = {"create_or_replay": "create_conversation", "save_or_replay": "save_message"}
"""Verbs that the query log knows by the name that hosts call them by."""


_STEPS = frozenset(
    [
        "begin_turn",
        "start_waiting",
        "begin_answer",
        "checkpoint",
        "await_approval",
        "decide_calls",
        "end_turn",
        "ask_to_stop",
        "recover_turn",
        "dead_turns",
        "renew_leases",
        "asked_to_stop",
        "_turn_view",
        "glance",
        "turn_context",
        "parts_said",
        "rendered",
    ]
)
"""Verbs of the turn machine: each state that a turn reaches is written down by itself."""


def _audited(
    service: Base, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], body: Callable[[], R]
) -> Callable[[], R]:
    if not service.config.audit or name in _STEPS:
        return body

    def audited() -> R:
        started = time.perf_counter()
        result = body()
        subject = _subject(args[0] if args else kwargs.get("conversation_id"), result)
        action = _ACTIONS.get(name, name.lstrip("_"))
        requests.log(service.store, action, subject, (time.perf_counter() - started) * 1000)
        return result

    return audited


def _logged(
    run: Callable[[Base, Callable[[], R]], R],
    service: Base,
    body: Callable[[], R],
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> R:
    """With debug logging, say of each call what it was about, how long it took and how it ended; never what was said."""
    if not logger.isEnabledFor(logging.DEBUG):
        return run(service, body)
    started = time.perf_counter()
    result, outcome = None, "ended"
    try:
        result = run(service, body)
        return result
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        subject = _subject(args[0] if args else kwargs.get("conversation_id"), result)
        milliseconds = (time.perf_counter() - started) * 1000
        logger.debug("%s of %s: %s after %.1f ms.", _ACTIONS.get(name, name), subject or "-", outcome, milliseconds)


def _subject(given: Any, result: Any) -> str | None:
    """The id of the conversation a call was about, as far as the call shows it."""
    result = getattr(result, "result", result)
    if isinstance(result, list) and result:
        result = result[0]
    found = result.get("conversation_id") or result.get("id") if isinstance(result, dict) else None
    return rules.uuid_or_none(found) or rules.uuid_or_none(given)


def _read(service: Base, body: Callable[[], R]) -> R:
    backend = service.backend
    backend.counters.add("reads")
    session = backend.scoped_session()
    mine = not (session.in_transaction() or transaction.is_joined(session) or transaction.is_grouped(session))
    tries = _Tries(backend.counters)
    while True:
        try:
            result = _run(service, session, body, tries)
            if mine and session.in_transaction():
                session.commit()
            return result
        except BaseException as error:
            if mine:
                undo(session)
            if not tries.again(error, *([faults.is_transient] if mine else [])):
                tries.give_up(error)


def _write(service: Base, body: Callable[[], R]) -> R:
    """Run *body* as a transaction of its own, or as a savepoint in one that the group or the host has open."""
    service.backend.counters.add("writes")
    session = service.session
    _flush(session)
    hosted = transaction.is_grouped(session) or service.leaves_commit_to_host
    tries = _Tries(service.backend.counters)
    while True:
        alone = not session.in_transaction()
        try:
            result = _in_savepoint(service, body, tries) if hosted or not alone else _straight(service, body, tries)
        except BaseException as error:
            if alone:
                undo(session)
            if tries.again(error, faults.is_duplicate, *([faults.is_transient] if alone else [])):
                continue
            tries.give_up(error)
        if hosted or _committed(session, tries, alone=alone):
            return result


class _Tries:
    """What has been tried of one call, and whether it is worth trying again."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.left = ATTEMPTS - 1
        self.lenient = False
        """Whether text that is none is read as far as it can be."""

    def again(self, error: BaseException, *causes: Callable[[BaseException], bool]) -> bool:
        if not self.lenient and spoilt.is_unreadable(error):
            self.lenient = True
            return True
        if self.left and any(cause(error) for cause in causes):
            self.left -= 1
            self._counters.add("retries")
            logger.debug("Trying again (%s).", type(error).__name__)
            if faults.is_conflict(error):
                self._counters.add("conflicts")
                # whoever won is given the time to finish; nothing is held meanwhile
                time.sleep(random.uniform(0, PAUSE * (ATTEMPTS - self.left)))
            return True
        return False

    def give_up(self, error: BaseException) -> NoReturn:
        """Raise our own error for what the database has said, if there is one, else *error* itself."""
        known = None if isinstance(error, ConversationsError) else faults.translated(error)
        if isinstance(known, StorageUnavailable):
            self._counters.add("unavailable")
        if known is None:
            raise error
        raise known from error


def _run(service: Base, session: Session, body: Callable[[], R], tries: _Tries) -> R:
    # what a hook of the host writes through the service is a part of this call, not a transaction in its middle
    with transaction.grouped(session):
        if not tries.lenient:
            return body()
        with spoilt.readable(service.store.connection):
            return body()


def _flush(session: Session) -> None:
    """A host's own pending change that fails to flush is the host's error: it passes through unchanged."""
    try:
        session.flush()
    except BaseException:
        undo(session)
        raise


def _straight(service: Base, body: Callable[[], R], tries: _Tries) -> R:
    begin(service.store)
    return _run(service, service.session, body, tries)


def _in_savepoint(service: Base, body: Callable[[], R], tries: _Tries) -> R:
    """Run *body* so that its failure undoes itself only: what the host or the group did before it stays."""
    session = service.session
    store = service.store
    began = begin(store)
    try:
        with savepoint(session):
            return _run(service, session, body, tries)
    except BaseException:
        if began and session.in_transaction():
            # the host had only read: SQLite's lock, which this call took, must not outlive it
            _driver(store).rollback()
        raise


def _committed(session: Session, tries: _Tries, *, alone: bool) -> bool:
    """Commit; False if the database undid it and the call can be tried again."""
    try:
        session.commit()
    except BaseException as error:
        undo(session)
        if faults.is_conflict(error) or faults.is_duplicate(error):
            transaction.undone(session)
        if alone and faults.is_conflict(error) and tries.again(error, faults.is_conflict):
            return False
        if faults.is_duplicate(error):
            # ours were found out before: this one is the host's own
            raise
        tries.give_up(error)
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
        raise StorageUnavailable("Somebody else holds the database lock for too long.") from error
    return True


def _driver(store: Store) -> Any:
    """The driver's own connection: what is said to it is no statement that a host would count or log."""
    return store.connection.connection.driver_connection


@contextlib.contextmanager
def group(service: Base) -> Iterator[None]:
    """Calls inside are one transaction, committed at the end of the outermost group, undone as a whole on an error.

    A group inside another, or inside a transaction of the host, is a savepoint of it.
    """
    with service.backend.turnstile:
        yield from _group(service)


def _group(service: Base) -> Iterator[None]:
    session, tries = service.session, _Tries(service.backend.counters)
    with transaction.grouped(session) as outermost:
        if not outermost or service.leaves_commit_to_host:
            begin(service.store)
            with _savepoint_of_group(session, tries):
                yield
            return
        try:
            yield
        except BaseException:
            undo(session)
            raise
    _committed(session, tries, alone=False)


@contextlib.contextmanager
def _savepoint_of_group(session: Session, tries: _Tries) -> Iterator[None]:
    """What the caller raises passes through; what the savepoint itself meets with is an error of ours."""
    raised = False
    try:
        with savepoint(session):
            try:
                yield
            except BaseException:
                raised = True
                raise
    except DBAPIError as error:
        if raised:
            raise
        tries.give_up(error)
