"""All script calls to Redis: each returns an answer or None, and never raises."""

from __future__ import annotations

import logging
import threading
from typing import Any

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..counters import Counters
from .breaker import Breaker
from .clients import Client, Connect
from .scripts import Script

logger = logging.getLogger("flask_conversations")


CONNECT_TIMEOUT = 0.1
"""Seconds that a thread waits for another one to find the nodes of a cluster."""


class Server:
    """Redis behind circuit breakers: one for reads, whose failures are harmless, and one for writes.

    Failed reads do not open the breaker of writes: a write that skips Redis leaves a stale entry, which readers may get.
    """

    def __init__(self, connect: Connect, counters: Counters) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._lock = threading.Lock()
        self.counters = counters
        self._outage_logged = False
        self.reading = Breaker()
        self.writing = Breaker()

    @property
    def client(self) -> Client:
        """The client, made on first use: a cluster client then looks up its nodes."""
        if self._client is None:
            # while a cluster is down, each thread in turn would wait for its nodes
            if not self._lock.acquire(timeout=CONNECT_TIMEOUT):
                raise TimeoutError("Another thread is still looking for the nodes.")
            try:
                self._client = self._client or self._connect()
            finally:
                self._lock.release()
        return self._client

    def read(self, script: Script, key: str, token: str, *arguments: Any) -> list[bytes] | None:
        """The answer of *script* after the token; None if the script has not run, or may not have run."""
        if not self.reading.allows():
            self.counters.add("skipped")
            return None
        answer, error = self._run(script, key, token, *arguments)
        if error is not None:
            self._failed(self.reading, error)
        return answer

    def may_write(self) -> bool:
        """Whether a write may be announced to Redis. If so, its end must be sent with `write` too."""
        allowed = self.writing.allows()
        if not allowed:
            self.counters.add("skipped")
        return allowed

    def write(self, script: Script, key: str, token: str, *arguments: Any, failed_before: bool) -> list[bytes] | None:
        """Like `read`, for a step of a write, in any state of the circuit breakers.

        A failure counts for the breaker of writes only if the step before it failed too: after one failed step, an entry may
        be left that the next write has to close.
        """
        answer, error = self._run(script, key, token, *arguments)
        if error is not None and failed_before:
            self._failed(self.writing, error)
        return answer

    def _run(
        self, script: Script, key: str, token: str, *arguments: Any
    ) -> tuple[list[bytes], None] | tuple[None, Exception]:
        try:
            answer: list[bytes] = script.run(self.client, key, token, *arguments)
            if len(answer) < 2 or answer[0] != token.encode():
                self._close_all()
                raise OutOfStep
        except Exception as error:  # noqa: BLE001 - any failure of the server or the network is no answer
            self.counters.add(_kind_of(error))
            logger.debug("Redis: %s of %s failed (%s).", script.name, key, type(error).__name__)
            return None, error
        recovered = self.reading.succeeded(), self.writing.succeeded()
        if any(recovered) and self._outage_logged:
            self._outage_logged = False
            logger.info("Redis answers again: the cache is used.")
        # the first word only: messages of users follow
        logger.debug("Redis: %s of %s: %s.", script.name, key, answer[1].decode("ascii", "replace"))
        return answer[1:], None

    def _failed(self, breaker: Breaker, error: Exception) -> None:
        if breaker.failed(timed_out=_is_timeout(error)) and not self._outage_logged:
            self._outage_logged = True
            # the name only: the text of a server may repeat the arguments
            logger.warning(
                "Redis does not answer (%s): working from the database. `flask conversations doctor` says more.",
                type(error).__name__,
            )

    def _close_all(self) -> None:
        """Close all connections: one has returned the answer to another call, as after an interrupted one."""
        pool = getattr(self.client, "connection_pool", None)
        if pool is not None:
            pool.disconnect()


class OutOfStep(RedisError):
    """An answer that belongs to another call."""


def _kind_of(error: Exception) -> str:
    """The counter of an error."""
    if isinstance(error, OutOfStep):
        return "out_of_step"
    return "timeouts" if _is_timeout(error) else "errors"


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, (RedisTimeoutError, TimeoutError))
