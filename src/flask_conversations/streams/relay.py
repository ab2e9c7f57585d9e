"""The events of running turns in Redis, so that readers on other workers need not wait for the next checkpoint.

Everything in it is stored in the database soon. Without Redis, readers on other workers read the checkpoints.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

from ..cache import Cache
from ..cache.breaker import Breaker
from ..cache.clients import Client, Connect
from ..config import Config
from .events import StreamEvent

logger = logging.getLogger("flask_conversations")


def open_relay(cache: Cache | None, config: Config) -> Relay | None:
    """The relay on the Redis of *cache*; None without one."""
    return None if cache is None else Relay(lambda: cache.server.client, config.cache_prefix)


END = "end"
"""The last event of a relay."""


class Relay:
    """One Redis LIST for each running turn: its worker writes, the other workers read."""

    def __init__(self, client: Connect, prefix: str = "") -> None:
        self._client = client
        self._prefix = prefix
        self._breaker = Breaker()

    def add(self, conversation_id: str, turn_id: str, events: Iterable[StreamEvent], ttl: float) -> bool:
        """Append *events*; False if Redis has not confirmed it. They expire *ttl* seconds after the last addition."""
        key = self._key(conversation_id, turn_id)
        frames = [json.dumps([each.position, each.event, each.data], ensure_ascii=False) for each in events]

        def push(client: Client) -> bool:
            client.rpush(key, *frames)
            client.pexpire(key, round(ttl * 1000))
            return True

        return bool(frames) and bool(self._call(push))

    def read(self, conversation_id: str, turn_id: str, start: int) -> list[StreamEvent] | None:
        """The events from the *start*-th one on; None if they cannot be read."""
        key = self._key(conversation_id, turn_id)
        frames = self._call(lambda client: client.lrange(key, start, -1))
        if frames is None:
            return None
        try:
            return [
                StreamEvent(int(position), str(event), dict(data)) for position, event, data in map(json.loads, frames)
            ]
        except (ValueError, TypeError):
            logger.warning("Redis has invalid data where the events of a turn should be.")
            return None

    def close(self, conversation_id: str, turn_id: str, ttl: float) -> None:
        """End the relay of a stored turn: readers go on in the database. The list expires after *ttl* seconds."""
        key = self._key(conversation_id, turn_id)

        def end(client: Client) -> None:
            client.rpush(key, json.dumps([0, END, {}]))
            client.pexpire(key, round(ttl * 1000))

        self._call(end)

    def _key(self, conversation_id: str, turn_id: str) -> str:
        return f"{self._prefix}conversation:{{{conversation_id}}}:turn:{turn_id}"

    def _call(self, call: Callable[[Client], Any]) -> Any:
        if not self._breaker.allows():
            return None
        try:
            answer = call(self._client())
        except Exception as error:  # noqa: BLE001 - the turn goes on without Redis
            timed_out = isinstance(error, TimeoutError) or "Timeout" in type(error).__name__
            self._breaker.failed(timed_out=timed_out)
            logger.debug("A call of the relay to Redis failed (%s).", type(error).__name__)
            return None
        self._breaker.succeeded()
        return answer
