"""What every part of the service stands on: the identity, the host's session, the store and the settings."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from blinker import Signal
from flask import Flask, has_app_context
from flask.globals import app_ctx
from sqlalchemy.orm import Session

from .. import transaction
from ..cache import Cache, Change, owner_tag
from ..config import Config
from ..counters import Counters
from ..errors import ConfigurationError, StorageUnavailable
from ..identity.base import Identity
from ..models import Models
from ..store import Store

_opened: contextvars.ContextVar[Any] = contextvars.ContextVar("flask_conversations.opened", default=None)
"""The app context that a service made with `app=` has opened, which the calls inside a group share."""


def alone(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make *call* in a thread of its own without the group that its caller may have open: a session is for one thread."""
    _opened.set(None)
    return call(*args, **kwargs)


class Turnstile:
    """Lets one thread through at a time, as often as that one likes. Raises `StorageUnavailable` after *patience* seconds."""

    def __init__(self, patience: float) -> None:
        self._lock, self._patience = threading.RLock(), patience

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._patience):
            raise StorageUnavailable("Another thread keeps the only connection for too long.")

    def __exit__(self, *error: object) -> None:
        self._lock.release()


@dataclasses.dataclass(frozen=True)
class Backend:
    """One app's side of the service: where its rows are and which rules hold."""

    app: Flask
    scoped_session: Any
    models: Models
    config: Config
    secrets: Callable[[], list[str]]
    """Keys that sign cursors, the newest first."""
    set_up: Callable[[sa.Connection], None]
    """Makes a connection of the host's ready for what we do on it."""
    titler: Callable[[str], str | None] | None = None
    token_counter: Callable[[str], int] | None = None
    counters: Counters = dataclasses.field(default_factory=Counters)
    cache: Cache | None = None
    """The newest messages in Redis; None without one."""
    runner: Any = None
    """The turns that this process is answering."""
    turnstile: Any = dataclasses.field(default_factory=contextlib.nullcontext)
    """Lets one thread at a time have a transaction where all share one connection, as with SQLite in memory."""
    guards: Callable[[], Sequence[Callable[[dict[str, Any], Any], Any]]] = tuple
    """Those in force: each may change or refuse a message before it is stored."""


class Base:
    """A part of the service, bound to one identity; `identity=None` is the system."""

    def __init__(self, backend: Callable[[], Backend], identity: Identity | None, app: Flask | None = None) -> None:
        self._backend = backend
        self._app = app
        self.identity = identity

    @property
    def backend(self) -> Backend:
        return self._backend()

    @property
    def config(self) -> Config:
        return self.backend.config

    @property
    def session(self) -> Session:
        return self.backend.scoped_session()  # type: ignore[no-any-return]

    @property
    def store(self) -> Store:
        backend = self.backend
        return Store(
            backend.scoped_session(),
            backend.models,
            self.identity,
            set_up=backend.set_up,
            lock_timeout=backend.config.lock_timeout,
            foreign_status=backend.config.foreign_status,
            note=self._note if backend.cache is not None else None,
        )

    def _note(self, conversation_id: str, version: int, rev: int) -> None:
        """A statement has brought a conversation to *version*: around the commit the cache follows."""
        cache = self.backend.cache
        assert cache is not None
        store = self.store
        transaction.witnessed(store.session, store.connection, cache, Change(conversation_id, version, rev))

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

    @property
    def leaves_commit_to_host(self) -> bool:
        # a session that a service with `app=` has opened ends with the call: no host could commit it
        return transaction.is_joined(self.session) or (self._app is None and not self.config.autocommit)

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

    def announce(self, signal: Signal, **payload: Any) -> None:
        """Send *signal* once what this call did is really committed."""
        if signal.receivers:
            backend, identity = self.backend, self.identity
            transaction.after_commit(self.session, lambda: _send(signal, backend, identity, payload))


def _send(signal: Signal, backend: Backend, identity: Identity | None, payload: dict[str, Any]) -> None:
    """Tell the receivers in an app context of their own: its session is theirs, and what they write is committed."""
    with backend.app.app_context():
        backend.counters.add("signals")
        signal.send(backend.app, identity=identity, **payload)
        backend.scoped_session.commit()
