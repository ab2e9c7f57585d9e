"""The memory half: the deques of this process, by owner and key, and what the database has not got of them yet."""

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

REFUSED = (Conflict, Forbidden, TypeError, ValueError, LookupError)
"""What the database half says to a change that it will never take: trying again is of no use."""

FAILED = (ConversationsError, sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.InternalError)
"""What it says when it cannot take a change now: it is out, has no tables, gives no permission. An error of the host's own pending
changes is none of these, and passes through."""

LONGEST_REST = 60.0
"""Seconds after a failure that the database is left alone, at most."""

_MODES = {("database", "database"), ("both", "database"), ("both", "memory"), ("memory", "memory")}


class Mode(NamedTuple):
    """Where the sessions are written and read."""

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
    """None if there is no such key. Replaced and never changed, so that it can be read without a lock."""
    loaded: int = 0
    """The turn to memory at which it was fetched from the database: since then it is whole."""
    era: int = 0
    """The era that it belongs to: an older one has missed what was written to the database alone."""
    owed: list[Change] = dataclasses.field(default_factory=list)
    """Changes that the database lacks, oldest first."""
    refused: int = 0
    lock: Any = dataclasses.field(default_factory=threading.RLock)
    """Held over a change of both halves, so that both have the same order."""


class Memory:
    """What one process remembers of the sessions, and how it gets on with the database."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode.checked()
        self.turn = 1
        """Goes up when reading turns to memory: what was loaded before may lack what others have written since."""
        self.era = 1
        """Goes up when memory is written again, after a time in which it was not."""
        self.failures = 0
        self._cells: dict[tuple[Owner, Key], Cell] = {}
        self._lock = threading.Lock()
        self._is_out = False
        self._rests_until = 0.0

    def switch(self, mode: Mode) -> None:
        mode.checked()
        with self._lock:
            if mode.read == "memory" and self.mode.read != "memory":
                self.turn += 1
            if mode.write != "database" and self.mode.write == "database":
                self.era += 1
            self.mode = mode
            self._rests_until = 0.0

    def find(self, owner: Owner, key: Key) -> Cell | None:
        return self._cells.get((owner, key))

    def cell(self, owner: Owner, key: Key) -> Cell:
        with self._lock:
            return self._cells.setdefault((owner, key), Cell(owner, key))

    def cells(self, owner: Owner | None = None) -> list[Cell]:
        """The deques of one owner, or of all, in the order in which this process first met them."""
        with self._lock:
            return [cell for cell in self._cells.values() if owner in (None, cell.owner)]

    def move_to_end(self, cell: Cell) -> None:
        """A key that begins anew is the youngest."""
        with self._lock:
            self._cells[cell.owner, cell.key] = self._cells.pop((cell.owner, cell.key))

    # --- the database: out, resting, back

    @property
    def rests(self) -> bool:
        """Whether the database has failed so lately that it is left alone."""
        return time.monotonic() < self._rests_until

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Around a call to the database: counts a failure and says once, without content, that it is out or back."""
        started = time.monotonic()
        try:
            yield
        except REFUSED:
            raise
        except FAILED as error:
            ended = time.monotonic()
            # an outage may cost a tenth of the time: a refused connection next to nothing, a timeout a long rest
            self._rests_until = ended + min(LONGEST_REST, 10 * (ended - started))
            self.failures += 1
            if not self._is_out:
                self._is_out = True
                logger.warning("Sessions: the database fails with %s; this process keeps what it lacks.", _name(error))
            raise
        if self._is_out:
            self._is_out = False
            logger.warning("Sessions: the database answers again.")

    def settle(self, cell: Cell, stored: Stored) -> None:
        """Bring the database up to date with *cell*, whose lock is held; raises what the database raises."""
        while cell.owed:
            try:
                with self.attempt():
                    cell.owed[0](stored)
            except REFUSED as error:
                cell.refused += 1
                logger.warning("Sessions: the database refuses a change with %s; see compare().", _name(error))
            del cell.owed[0]


def _name(error: BaseException) -> str:
    return type(error).__name__
