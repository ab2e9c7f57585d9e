"""What Redis has not been told: keys that may hold the state before a write, which this process does not read until emptied."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

MOST = 10_000
"""Keys that are remembered by name; of more, only until when they were made."""


class Debts:
    """The keys that one process owes a DROP."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, object] = {}
        self._overflowed: float | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str) -> None:
        """A write on *key* could not be settled."""
        with self._lock:
            if key in self._keys or len(self._keys) < MOST:
                self._keys[key] = object()
            else:
                self._overflowed = time.monotonic()

    def of(self, key: str) -> object | None:
        """What is owed on *key*, for `paid`; None if nothing is."""
        return self._keys.get(key)

    def paid(self, key: str, debt: object | None) -> None:
        """*debt* is settled; one that was made meanwhile is not."""
        with self._lock:
            if self._keys.get(key) is debt:
                self._keys.pop(key, None)

    def some(self, count: int) -> Iterator[str]:
        """A few of the keys, the oldest first."""
        return iter(list(self._keys)[:count])

    def horizon_ms(self, max_age_ms: int) -> int:
        """How old an entry may be, in milliseconds, 0 for any age: not as old as a debt that is known by its time only."""
        if self._overflowed is None:
            return max_age_ms
        since_ms = int((time.monotonic() - self._overflowed) * 1000)
        if max_age_ms and since_ms >= max_age_ms:
            self._overflowed = None
            return max_age_ms
        return max(since_ms - 1, 1)
