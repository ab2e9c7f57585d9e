"""Counters of one process: numbers that only rise, and no content."""

from __future__ import annotations

import threading
from collections import Counter


class Counters:
    """Named numbers that all threads raise."""

    def __init__(self, *names: str) -> None:
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter(dict.fromkeys(names, 0))

    def add(self, name: str, by: int = 1) -> None:
        with self._lock:
            self._numbers[name] += by

    def all(self) -> dict[str, int]:
        with self._lock:
            return dict(self._numbers)
