"""The shared state of the services of one app: database, settings, and the hooks of the host."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import scoped_session

from ..cache import Cache
from ..config import Config
from ..counters import Counters
from ..errors import StorageUnavailable
from ..models import Models
from .guards import Guard
from .turns.ports import Registry


class ConnectionLock:
    """A re-entrant lock with a timeout: raises `StorageUnavailable` after *timeout* seconds."""

    def __init__(self, timeout: float) -> None:
        self._lock, self._timeout = threading.RLock(), timeout

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._timeout):
            raise StorageUnavailable("Another thread keeps the only connection for too long.")

    def __exit__(self, *error: object) -> None:
        self._lock.release()


@dataclasses.dataclass(frozen=True)
class Backend:
    """The state that all services of one app share."""

    app: Flask
    scoped_session: scoped_session[Any]
    """The host's `db.session`: called, it gives the session of the current context."""
    models: Models
    config: Config
    secrets: Callable[[], list[str]]
    """Keys that sign cursors, the newest first."""
    set_up: Callable[[sa.Connection], None]
    """Prepares a connection of the host for the package's statements."""
    turns: Registry
    """The turns that this process executes."""
    service_of: Callable[[Any], Any]
    """Makes the `ConversationService` on some `Units`, for `turn.service`: both are defined above this module."""
    titler: Callable[[str], str | None] | None = None
    token_counter: Callable[[str], int] | None = None
    counters: Counters = dataclasses.field(default_factory=Counters)
    cache: Cache | None = None
    """The newest messages in Redis; None without one."""
    connection_lock: contextlib.AbstractContextManager[None] = dataclasses.field(default_factory=contextlib.nullcontext)
    """Serializes the threads that share one connection, as with SQLite in memory."""
    shares_one_connection: bool = False
    guards: Callable[[], Sequence[Guard]] = tuple
    """The configured guards: each may change or refuse a message before it is stored."""
