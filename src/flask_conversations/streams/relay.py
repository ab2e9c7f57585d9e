"""What is being said, passed on through Redis, so that a reader on another worker need not wait for the next checkpoint.

It holds nothing that is not about to be in the database. If Redis is away, readers on other workers read the checkpoints.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

from ..cache import Cache
from ..cache.breaker import Breaker
from ..config import Config
from .events import StreamEvent

logger = logging.getLogger("flask_conversations")


def open_relay(cache: Cache | None, config: Config) -> Relay | None:
    """The relay on the Redis of *cache*; None without one."""
    return None if cache is None else Relay(lambda: cache.server.client, config.cache_prefix)


END = "end"
"""The event that says that nothing more comes from here."""


class Relay:
    """One Redis LIST for each turn under way, in which the worker writes and others read."""

    def __init__(self, client: Callable[[], Any], prefix: str = "") -> None:
        self._client = client
        self._prefix = prefix
        self._breaker = Breaker()

    def add(self, conversation_id: str, turn_id: str, said: Iterable[StreamEvent], kept: float) -> bool:
        """Add to what was told; False if that is not known to have happened. Forgotten *kept* seconds after the last."""
        key = self._key(conversation_id, turn_id)
        frames = [json.dumps([each.position, each.event, each.data], ensure_ascii=False) for each in said]

        def push(client: Any) -> bool:
            client.rpush(key, *frames)
            client.pexpire(key, round(kept * 1000))
            return True

        return bool(frames) and bool(self._try(push))

    def read(self, conversation_id: str, turn_id: str, start: int) -> list[StreamEvent] | None:
        """What was told from the *start*-th event on; None if there is nothing to go by."""
        key = self._key(conversation_id, turn_id)
        frames = self._try(lambda client: client.lrange(key, start, -1))
        if frames is None:
            return None
        try:
            return [
                StreamEvent(int(position), str(event), dict(data)) for position, event, data in map(json.loads, frames)
            ]
        except (ValueError, TypeError):
            logger.warning("Redis holds something else where a running answer should be.")
            return None

    def close(self, conversation_id: str, turn_id: str, lingers: float) -> None:
        """The turn is over, and the database has it all: those who listen are told to look there, for *lingers* seconds."""
        key = self._key(conversation_id, turn_id)

        def end(client: Any) -> None:
            client.rpush(key, json.dumps([0, END, {}]))
            client.pexpire(key, round(lingers * 1000))

        self._try(end)

    def _key(self, conversation_id: str, turn_id: str) -> str:
        return f"{self._prefix}conversation:{{{conversation_id}}}:turn:{turn_id}"

    def _try(self, call: Callable[[Any], Any]) -> Any:
        if not self._breaker.allows():
            return None
        try:
            answer = call(self._client())
        except Exception as error:  # noqa: BLE001 - the turn goes on without Redis
            timed_out = isinstance(error, TimeoutError) or "Timeout" in type(error).__name__
            self._breaker.failed(timed_out=timed_out)
            logger.debug("Redis did not pass on an answer (%s).", type(error).__name__)
            return None
        self._breaker.succeeded()
        return answer
