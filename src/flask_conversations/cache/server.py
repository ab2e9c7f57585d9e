"""The one place that talks to Redis: a call is answered or it is not, and nothing else ever comes out of it."""

from __future__ import annotations

import logging
import threading
from typing import Any

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..counters import Counters
from .breaker import Breaker
from .clients import Connect
from .scripts import Script

logger = logging.getLogger("flask_conversations")


CONNECTING = 0.1
"""Seconds that a thread waits for another one to find the nodes of a cluster."""


class Server:
    """Redis behind circuit breakers: one for reads, whose failures are harmless, and one for writes.

    A write that does not tell Redis leaves an entry that others may be shown, so that a failed read is no reason for it.
    """

    def __init__(self, connect: Connect, counters: Counters) -> None:
        self._connect = connect
        self._client: Any = None
        self._lock = threading.Lock()
        self.counters = counters
        self._said = False
        self.reading = Breaker()
        self.writing = Breaker()

    @property
    def client(self) -> Any:
        """The client, made when it is first needed: a cluster is asked for its nodes then."""
        if self._client is None:
            # several at once would each wait for the nodes of a cluster that is down, one after the other
            if not self._lock.acquire(timeout=CONNECTING):
                raise TimeoutError("Another thread is still looking for the nodes.")
            try:
                self._client = self._client or self._connect()
            finally:
                self._lock.release()
        return self._client

    def read(self, script: Script, key: str, token: str, *arguments: Any) -> list[bytes] | None:
        """What *script* answers after the token; None if it has not run or is not known to have."""
        if not self.reading.allows():
            self.counters.add("skipped")
            return None
        answer, error = self._run(script, key, token, *arguments)
        if error is not None:
            self._failed(self.reading, error)
        return answer

    def may_write(self) -> bool:
        """Whether a write is worth telling to Redis; if so, its end has to be told as well, with `write`."""
        allowed = self.writing.allows()
        if not allowed:
            self.counters.add("skipped")
        return allowed

    def write(self, script: Script, key: str, token: str, *arguments: Any, failed_before: bool) -> list[bytes] | None:
        """The same for a step of a write, whatever the circuit breakers say.

        Only the second step that fails counts for that of writes. After one, an entry may be left that the next write has to
        close.
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
        except Exception as error:  # noqa: BLE001 - whatever a broken server or network makes of a call, it is no answer
            self.counters.add(_kind_of(error))
            logger.debug("Redis: %s of %s failed (%s).", script.name, key, type(error).__name__)
            return None, error
        recovered = self.reading.succeeded(), self.writing.succeeded()
        if any(recovered) and self._said:
            self._said = False
            logger.info("Redis answers again: the cache is used.")
        # the first word only: what follows is what people said
        logger.debug("Redis: %s of %s: %s.", script.name, key, answer[1].decode("ascii", "replace"))
        return answer[1:], None

    def _failed(self, breaker: Breaker, error: Exception) -> None:
        if breaker.failed(timed_out=_is_timeout(error)) and not self._said:
            self._said = True
            # the name only: what a server says may repeat what it was sent
            logger.warning(
                "Redis does not answer (%s): working from the database. `flask conversations doctor` says more.",
                type(error).__name__,
            )

    def _close_all(self) -> None:
        """A connection has handed over the answer to another call, as after an interrupted one: none of them is used again."""
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
