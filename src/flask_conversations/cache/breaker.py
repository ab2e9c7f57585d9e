"""A circuit breaker: after failures no caller asks for a while, then one caller asks on behalf of all."""

from __future__ import annotations

import random
import threading
import time

FAILURES = 3
"""Failures in a row that open it; a time-out opens it at once, since it has cost its caller time."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds until it is tried again: the first time, and after many tries, each twice as long as the one before."""


class Breaker:
    """Whether a dependency is worth asking, for all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = 0.0
        self._closed_from = 0.0
        self.opened = 0
        """How often it has opened since the process began."""

    @property
    def state(self) -> str:
        """`closed` (ask), `open` (don't), or `half-open` (one may ask)."""
        if not self._pause:
            return "closed"
        return "open" if time.monotonic() < self._closed_from else "half-open"

    def allows(self) -> bool:
        """Whether the caller may ask; it has to say `succeeded` or `failed` afterwards."""
        if not self._pause:
            return True
        with self._lock:
            if time.monotonic() < self._closed_from:
                return False
            # the caller is the probe: the others wait for its result, or for one more pause if it never returns
            self._closed_from = time.monotonic() + self._pause
            return True

    def succeeded(self) -> bool:
        """The dependency has answered; whether this has closed an open breaker."""
        if not (self._failures or self._pause):
            return False
        with self._lock:
            was_open = bool(self._pause)
            self._failures, self._pause = 0, 0.0
            return was_open

    def failed(self, *, timed_out: bool) -> bool:
        """The dependency has not answered, or only with an error; whether this has opened the breaker."""
        with self._lock:
            self._failures += 1
            if not self._pause and not timed_out and self._failures < FAILURES:
                return False
            was_closed = not self._pause
            self._pause = min(self._pause * 2 or FIRST_PAUSE, LONGEST_PAUSE)
            # not all processes at the same moment
            self._closed_from = time.monotonic() + self._pause * random.uniform(0.5, 1)
            self.opened += was_closed
            return was_closed
