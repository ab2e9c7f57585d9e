"""The memory half: the deques of this process, by owner and key, and their pending changes for the database."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import sqlalchemy.exc

from ..errors import ConfigurationError, Conflict, ConversationsError, Forbidden
from .keys import Key

if TYPE_CHECKING:
    from .stored import Stored

logger = logging.getLogger("flask_conversations")

Owner: TypeAlias = "tuple[str | None, str]"
Change: TypeAlias = "Callable[[Stored], Any]"

PERMANENT_ERRORS = (Conflict, Forbidden, TypeError, ValueError, LookupError)
"""Errors of a change that the database will never store: it is not retried."""

TRANSIENT_ERRORS = (ConversationsError, sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.InternalError)
"""Errors of a database that is unavailable, or lacks tables or permissions: the change is retried later. An error of the host's own
pending changes is not among them, and passes through."""

MAX_BACKOFF_SECONDS = 60.0
"""The maximum time without calls after a failure."""

_MODES = {("database", "database"), ("both", "database"), ("both", "memory"), ("memory", "memory")}


class Mode(NamedTuple):
    """The halves in which the sessions are written and read."""

    write: str
    read: str

    def checked(self) -> Mode:
        if tuple(self) not in _MODES:
            known = ", ".join(f"write={write!r} with read={read!r}" for write, read in sorted(_MODES))
            raise ConfigurationError(
                f"Sessions cannot be used with write={self.write!r} and read={self.read!r}. Choose one of: {known}."
            )
        return self


@dataclasses.dataclass
class Cell:
    """One deque in memory."""

    owner: Owner
    key: Key
    items: tuple[Any, ...] | None = None
    """None if there is no such key. The tuple is replaced, never changed, so that it can be read without a lock."""
    read_epoch: int = 0
    """The read epoch in which it was last fetched from the database: in that epoch it is whole."""
    write_epoch: int = 0
    """The write epoch of its items: a cell of an older one lacks changes that were written to the database only."""
    pending: list[Change] = dataclasses.field(default_factory=list)
    """Changes that the database lacks, oldest first."""
    refused: int = 0
    lock: Any = dataclasses.field(default_factory=threading.RLock)
    """Held during a change of both halves, so that both have the same order of changes."""


class Memory:
    """The deques of one process, and the availability of the database."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode.checked()
        self.read_epoch = 1
        """Incremented when reads switch to memory: cells of an earlier epoch may lack changes of other processes."""
        self.write_epoch = 1
        """Incremented when writes to memory start again after a time without them."""
        self.failures = 0
        self._cells: dict[tuple[Owner, Key], Cell] = {}
        self._lock = threading.Lock()
        self._is_unavailable = False
        self._retry_at = 0.0

    def switch(self, mode: Mode) -> None:
        mode.checked()
        with self._lock:
            if mode.read == "memory" and self.mode.read != "memory":
                self.read_epoch += 1
            if mode.write != "database" and self.mode.write == "database":
                self.write_epoch += 1
            self.mode = mode
            self._retry_at = 0.0

    def find(self, owner: Owner, key: Key) -> Cell | None:
        return self._cells.get((owner, key))

    def cell(self, owner: Owner, key: Key) -> Cell:
        with self._lock:
            return self._cells.setdefault((owner, key), Cell(owner, key))

    def cells(self, owner: Owner | None = None) -> list[Cell]:
        """The deques of one owner, or of all, in the order of their first use in this process."""
        with self._lock:
            return [cell for cell in self._cells.values() if owner in (None, cell.owner)]

    def move_to_end(self, cell: Cell) -> None:
        """Make a recreated key the newest."""
        with self._lock:
            self._cells[cell.owner, cell.key] = self._cells.pop((cell.owner, cell.key))

    # --- the availability of the database

    @property
    def is_backing_off(self) -> bool:
        """Whether the last failure is so recent that the database is not called."""
        return time.monotonic() < self._retry_at

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Around a call to the database: count failures, and log each outage and recovery once, without content."""
        started = time.monotonic()
        try:
            yield
        except PERMANENT_ERRORS:
            raise
        except TRANSIENT_ERRORS as error:
            ended = time.monotonic()
            # failing calls may take a tenth of the time: after a timeout the pause is long, after a refused connection short
            self._retry_at = ended + min(MAX_BACKOFF_SECONDS, 10 * (ended - started))
            self.failures += 1
            if not self._is_unavailable:
                self._is_unavailable = True
                logger.warning(
                    "Sessions: the database fails with %s; this process keeps the pending changes.", _name(error)
                )
            raise
        if self._is_unavailable:
            self._is_unavailable = False
            logger.warning("Sessions: the database answers again.")

    def sync(self, cell: Cell, stored: Stored) -> None:
        """Send the pending changes of *cell*, whose lock is held, to the database. Raises the errors of the database."""
        while cell.pending:
            try:
                with self.attempt():
                    cell.pending[0](stored)
            except PERMANENT_ERRORS as error:
                cell.refused += 1
                logger.warning("Sessions: the database refuses a change with %s; see compare().", _name(error))
            del cell.pending[0]


def _name(error: BaseException) -> str:
    return type(error).__name__
