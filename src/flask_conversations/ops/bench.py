"""Reads and saves, measured on the app's own database and Redis."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from blinker import Signal

from .. import signals
from ..database import engine_of
from ..identity.base import Identity
from ..identity.settings import current_flask_app
from ..service import ConversationService, http
from ..service.unit_of_work import Units

if TYPE_CHECKING:
    from ..state import State

TEXT = ("The quick brown fox jumps over the lazy dog, and " * 21)[:1024]
"""A message of 1 KB."""

READS_PER_TURN = 3
"""Reads of a turn in the simulation: the history for the model, and a page by the browser after each message."""


class Bench:
    """The measurements, on one conversation."""

    def __init__(self, state: State, identity: Identity, messages: int, seconds: float) -> None:
        # measures the package alone; the host's hooks must not see these messages
        config = dataclasses.replace(state.config, audit=False)
        backend = dataclasses.replace(state.backend, config=config, guards=tuple, titler=None)
        self._units = Units(lambda: backend, identity, current_flask_app())
        self._service = ConversationService(self._units)
        self._engine = engine_of(state.db, state.config)
        self._cache = state.cache
        self._config = config
        self._messages, self._seconds = messages, seconds
        self._text = TEXT[: config.max_content_length]
        self._id = ""

    def run(self) -> dict[str, Any]:
        with self._units.context(), _muted_signals():
            try:
                return self._measured()
            finally:
                if self._id:
                    self._service.delete_conversation(self._id, permanent=True)

    def _measured(self) -> dict[str, Any]:
        self._new()
        cache = self._cache
        found: dict[str, Any] = {
            "database": self._engine.dialect.name,
            "messages": self._messages,
            "cache": None,
            "read": _milliseconds(self._timed(self._read)),
        }
        if cache is not None:
            found["cold"] = _milliseconds(self._timed(self._read, lambda: cache.forget(self._id)))
            found["cache"] = {
                "limit": self._config.cache_limit,
                "ttl": self._config.cache_ttl,
                "max_staleness": self._config.cache_max_staleness,
                "strict": cache.strict,
                # a read has just filled it
                "bytes": cache.bytes_of(self._id),
                "answers": cache.stats()["hits"] > 0,
            }
        found["save"] = _milliseconds(self._timed(self._save))
        found["simulation"] = self._simulation()
        return found

    def _new(self) -> None:
        started = [
            {"role": "assistant" if place % 2 else "user", "content": self._text} for place in range(self._messages)
        ]
        # temporary: if the process is killed before the deletion, `prune` removes it
        conversation = self._service.create_conversation("A measurement", messages=started, temporary=True)
        self._id = str(conversation["id"])

    def _read(self) -> None:
        self._service.get_conversation_history(self._id, self._messages)

    def _save(self) -> None:
        self._service.save_message(self._id, "user", self._text)

    def _timed(self, call: Callable[[], None], before: Callable[[], object] = lambda: None) -> list[float]:
        """Milliseconds of each *call* during the time of the measurement, the first one not counted."""
        before()
        call()
        taken: list[float] = []
        end = time.monotonic() + self._seconds
        while not taken or time.monotonic() < end:
            before()
            started = time.perf_counter_ns()
            call()
            taken.append((time.perf_counter_ns() - started) / 1e6)
        return taken

    def _simulation(self) -> dict[str, Any]:
        """Simulate a conversation in use, and count the reads that sent statements to the database."""
        reads = needed = 0
        end = time.monotonic() + self._seconds

        def read(call: Callable[[], object]) -> None:
            nonlocal reads, needed
            with _statements(self._engine) as sent:
                call()
            reads += 1
            needed += bool(sent)

        def page() -> None:
            http.get_messages(self._units, self._id, limit=self._messages)

        while not reads or time.monotonic() < end:
            read(self._read)
            self._save()
            read(page)
            self._save()
            read(page)
        return {"turns": reads // READS_PER_TURN, "reads": reads, "saved_percent": round(100 * (1 - needed / reads), 1)}


@contextlib.contextmanager
def _muted_signals() -> Iterator[None]:
    """Mute our signals: a receiver would take the measured conversation for a real one."""
    with contextlib.ExitStack() as stack:
        for signal in vars(signals).values():
            if isinstance(signal, Signal):
                stack.enter_context(signal.muted())
        yield


@contextlib.contextmanager
def _statements(engine: sa.Engine) -> Iterator[list[str]]:
    sent: list[str] = []

    def listener(connection: sa.Connection, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    sa.event.listen(engine, "before_cursor_execute", listener)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", listener)


def _milliseconds(taken: list[float]) -> dict[str, Any]:
    return {
        "median_ms": round(statistics.median(taken), 3),
        "p95_ms": round(sorted(taken)[int(len(taken) * 0.95)], 3),
        "calls": len(taken),
    }
