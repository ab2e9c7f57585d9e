"""Keys whose invalidation did not reach Redis. This process bypasses them until it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

MAX_KEYS = 10_000
"""Keys that are remembered by name. Of further keys only the time of the last failure is remembered."""


class PendingInvalidations:
    """The keys that one process still has to invalidate with a DROP."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._marks: dict[str, object] = {}
        self._overflowed: float | None = None

    def __len__(self) -> int:
        return len(self._marks)

    def mark_stale(self, key: str) -> None:
        """Remember that an invalidation of *key* has failed."""
        with self._lock:
            if key in self._marks or len(self._marks) < MAX_KEYS:
                self._marks[key] = object()
            else:
                self._overflowed = time.monotonic()

    def mark_of(self, key: str) -> object | None:
        """The mark on *key*, for `clear`; None if the key has none."""
        return self._marks.get(key)

    def clear(self, key: str, mark: object | None) -> None:
        """Remove *mark* after a DROP. A mark that was set since then stays."""
        with self._lock:
            if self._marks.get(key) is mark:
                self._marks.pop(key, None)

    def oldest(self, count: int) -> Iterator[str]:
        """At most *count* marked keys, the oldest mark first."""
        return iter(list(self._marks)[:count])

    def horizon_ms(self, max_age_ms: int) -> int:
        """The age in milliseconds up to which an entry may be served; 0 for any age.

        After an overflow, only entries that were written after the last failure are served.
        """
        if self._overflowed is None:
            return max_age_ms
        since_ms = int((time.monotonic() - self._overflowed) * 1000)
        if max_age_ms and since_ms >= max_age_ms:
            self._overflowed = None
            return max_age_ms
        return max(since_ms - 1, 1)
