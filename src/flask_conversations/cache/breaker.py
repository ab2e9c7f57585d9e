"""A circuit breaker: after failures it rejects all calls for a while, then lets one call through as a probe."""

from __future__ import annotations

import random
import threading
import time

FAILURES = 3
"""Failures in a row that open it; a time-out opens it at once, since it has cost its caller time."""

FIRST_PAUSE, MAX_PAUSE = 1.0, 30.0
"""Seconds that the breaker stays open: at first and at most. Each failed probe doubles them."""


class Breaker:
    """Whether calls to a dependency are allowed, for all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = 0.0
        self._retry_at = 0.0
        self.opened = 0
        """How often it has opened since the process began."""

    @property
    def state(self) -> str:
        """`closed` (all calls pass), `open` (none passes) or `half-open` (one passes as a probe)."""
        if not self._pause:
            return "closed"
        return "open" if time.monotonic() < self._retry_at else "half-open"

    def allows(self) -> bool:
        """Whether the caller may make a call; it must report the result with `succeeded` or `failed`."""
        if not self._pause:
            return True
        with self._lock:
            if time.monotonic() < self._retry_at:
                return False
            # the caller is the probe: other calls are rejected until it returns, or for one more pause if it never does
            self._retry_at = time.monotonic() + self._pause
            return True

    def succeeded(self) -> bool:
        """Report an answer. True if it has closed an open breaker."""
        if not (self._failures or self._pause):
            return False
        with self._lock:
            was_open = bool(self._pause)
            self._failures, self._pause = 0, 0.0
            return was_open

    def failed(self, *, timed_out: bool) -> bool:
        """Report an error or a missing answer. True if it has opened the breaker."""
        with self._lock:
            self._failures += 1
            if not self._pause and not timed_out and self._failures < FAILURES:
                return False
            was_closed = not self._pause
            self._pause = min(self._pause * 2 or FIRST_PAUSE, MAX_PAUSE)
            # jitter: not all processes probe at the same moment
            self._retry_at = time.monotonic() + self._pause * random.uniform(0.5, 1)
            self.opened += was_closed
            return was_closed
