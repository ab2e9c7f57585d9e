"""A persistent `SESSIONS` dict: `conversations.sessions(maxlen=20)` in place of `defaultdict(lambda: deque(maxlen=20))`."""

from __future__ import annotations

from .deques import SessionDeque
from .items import Item
from .mapping import Sessions

__all__ = ["Item", "SessionDeque", "Sessions"]
