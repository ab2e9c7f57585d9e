"""The one place that talks to Redis: a call is answered or it is not, and nothing else ever comes out of it."""

from __future__ import annotations

import logging
import threading
from typing import Any

from redis.exceptions import TimeoutError as RedisTimeoutError

from ..counters import Counters
from .breaker import Breaker
from .clients import Connect
from .scripts import Script

logger = logging.getLogger("flask_conversations")


class Server:
    """Redis behind a circuit breaker."""

    def __init__(self, connect: Connect, counters: Counters) -> None:
        self._connect = connect
        self._client: Any = None
        self._lock = threading.Lock()
        self.counters = counters
        self.breaker = Breaker()

    @property
    def client(self) -> Any:
        """The client, made when it is first needed: a cluster is asked for its nodes then."""
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._client = self._connect()
        return self._client

    def call(self, script: Script, key: str, token: str, *arguments: Any, insist: bool = False) -> list[bytes] | None:
        """What *script* answers after the token; None if it may or may not have run.

        To *insist* is to ask although the circuit breaker is open.
        """
        if not insist and not self.breaker.allows():
            self.counters.add("skipped")
            return None
        try:
            answer = [_bytes(part) for part in script.run(self.client, key, token, *arguments)]
        except Exception as error:  # noqa: BLE001 - whatever a broken server or network makes of a call, it is no answer
            self._failed(error)
            return None
        if not answer or answer[0] != token.encode():
            self._out_of_step()
            return None
        if self.breaker.succeeded():
            logger.info("Redis answers again: the cache is used.")
        return answer[1:]

    def _failed(self, error: Exception) -> None:
        timed_out = isinstance(error, (RedisTimeoutError, TimeoutError))
        self.counters.add("timeouts" if timed_out else "errors")
        if self.breaker.failed(timed_out=timed_out):
            # the name only: what a server says may repeat what it was sent
            logger.warning(
                "Redis does not answer (%s): working from the database. `flask conversations doctor` says more.",
                type(error).__name__,
            )

    def _out_of_step(self) -> None:
        """A connection has handed over the answer to another call, as after an interrupted one: none of them is used again."""
        self.counters.add("out_of_step")
        self.breaker.failed(timed_out=False)
        pool = getattr(self.client, "connection_pool", None)
        if pool is not None:
            pool.disconnect(inuse_connections=False)


def _bytes(part: Any) -> bytes:
    """As it came: a client of the host's may decode answers."""
    return part if isinstance(part, bytes) else str(part).encode()
