"""`flask conversations bench`: what reading and saving take on this app's own database and Redis."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import click
import sqlalchemy as sa
from blinker import Signal
from flask import current_app

from .. import signals
from ..identity.base import Identity
from ..service import ConversationService, http
from ..service.unit_of_work import Units
from .group import current_state, engine_of, explained, group

TEXT = ("The quick brown fox jumps over the lazy dog, and " * 21)[:1024]
"""A message of 1 KB."""

DOCUMENTED = {"messages": 15, "ttl": 3600, "warm_ms": 5.0, "saved": 90.0, "bytes": 15_000}
"""What the documents of the first apps promise: of the newest 15 messages, kept for an hour."""

READS_A_TURN = 3
"""Reads of a turn in the simulation: the history for the model, and a page by the browser after each message."""


@group.command("bench")
@click.option(
    "--messages",
    type=click.IntRange(1, 100),
    default=DOCUMENTED["messages"],
    show_default=True,
    help="Messages of 1 KB in the conversation; each read asks for as many.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.01, 600), default=2.0, show_default=True, help="Seconds for each measurement."
)
@click.option(
    "--user",
    metavar="ID",
    help="Whose the conversation is, where CONVERSATIONS_USER_FOREIGN_KEY needs one that exists.",
)
@click.option("--org", metavar="ID", help="The organisation of that user.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def bench(messages: int, seconds: float, user: str | None, org: str | None, as_json: bool) -> None:
    """Measure reads and saves on this app's own database and Redis.

    It works on a temporary conversation of a user made up for it, and deletes it at the end, also after Ctrl-C. Guards, signals,
    titles and the query log are left out. Run it where the app runs, at a quiet hour: its writes are real.
    """
    state = current_state()
    if user is None and state.config.user_foreign_key:
        raise click.UsageError("CONVERSATIONS_USER_FOREIGN_KEY needs a user that exists: name one with --user.")
    identity = Identity(user or f"flask-conversations-bench-{uuid.uuid4().hex}", org)
    with explained():
        found = Bench(state, identity, messages, seconds).run()
    click.echo(json.dumps(found) if as_json else "\n".join(_lines(found)))


class Bench:
    """The measurements, on one conversation."""

    def __init__(self, state: Any, identity: Identity, messages: int, seconds: float) -> None:
        # the time of the package, not of the host's hooks, which had better not see what is said here
        config = dataclasses.replace(state.config, audit=False)
        backend = dataclasses.replace(state.backend, config=config, guards=tuple, titler=None)
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        self._units = Units(lambda: backend, identity, app)
        self._service = ConversationService(self._units)
        self._engine = engine_of(state)
        self._cache = state.cache
        self._config = config
        self._messages, self._seconds = messages, seconds
        self._text = TEXT[: config.max_content_length]
        self._id = ""

    def run(self) -> dict[str, Any]:
        with self._units.context(), _quiet():
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
        # temporary: should even the deletion be killed, `prune` removes it
        conversation = self._service.create_conversation("A measurement", messages=started, temporary=True)
        self._id = str(conversation["id"])

    def _read(self) -> None:
        self._service.get_conversation_history(self._id, self._messages)

    def _save(self) -> None:
        self._service.save_message(self._id, "user", self._text)

    def _timed(self, call: Callable[[], None], before: Callable[[], object] = lambda: None) -> list[float]:
        """Milliseconds of each *call*, for as long as was asked, the first one not counted."""
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
        """A conversation in use: of its reads, how many needed the database, counted by the statements they sent."""
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
        return {"turns": reads // READS_A_TURN, "reads": reads, "saved_percent": round(100 * (1 - needed / reads), 1)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No signals: a listener would take the measured conversation for a real one."""
    with contextlib.ExitStack() as stack:
        for signal in vars(signals).values():
            if isinstance(signal, Signal):
                stack.enter_context(signal.muted())
        yield


@contextlib.contextmanager
def _statements(engine: sa.Engine) -> Iterator[list[str]]:
    sent: list[str] = []

    def listener(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
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


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """What an operator reads: each figure, and what the documents promise."""
    cache, count = found["cache"], found["messages"]
    goal = f"goal: below {DOCUMENTED['warm_ms']:g} ms"
    if cache is None:
        yield "There is no cache: every read goes to the database. Set CONVERSATIONS_REDIS_URL to have one."
        yield _figure(f"the last {count} messages", found["read"], goal)
    elif not cache["answers"]:
        yield "The cache has not answered: every read went to the database. `flask conversations doctor` says why."
        yield _figure(f"the last {count} messages", found["read"], goal)
    else:
        strict = ", strict" if cache["strict"] else ""
        yield _figure(f"the last {count} messages, warm{strict}", found["read"], goal)
        yield _figure("the same, not in the cache", found["cold"], "it is filled")
    yield _figure("saving a message", found["save"], "committed")
    yield from _simulated(found)
    if cache is not None:
        yield from _kept(cache, count)


def _figure(what: str, times: dict[str, Any], remark: str) -> str:
    return f"{what + ':':38} median {times['median_ms']:.2f} ms, p95 {times['p95_ms']:.2f} ms ({remark}; {times['calls']:,} calls)"


def _simulated(found: dict[str, Any]) -> Iterator[str]:
    cache, simulation = found["cache"], found["simulation"]
    share, reads, turns = (simulation[name] for name in ("saved_percent", "reads", "turns"))
    goal = f"goal: at least {DOCUMENTED['saved']:g} %; a turn is a history, two saves and two pages"
    yield f"{'reads without the database:':38} {share:g} % of {reads:,} in {turns:,} turns ({goal})"
    if cache is not None and cache["strict"]:
        yield "  CONVERSATIONS_CACHE_STRICT asks the database about every read, with one lookup by primary key."
    elif cache is not None:
        yield (
            f"  A conversation without writes is read from the database once in {cache['max_staleness']:g} s"
            " (CONVERSATIONS_CACHE_MAX_STALENESS)."
        )
    if cache is not None and found["messages"] > cache["limit"]:
        yield (
            f"  The cache keeps {cache['limit']} messages (CONVERSATIONS_CACHE_LIMIT): a read of {found['messages']} of a longer"
            " conversation goes to the database."
        )


def _kept(cache: dict[str, Any], count: int) -> Iterator[str]:
    size = (
        "Redis does not say (MEMORY USAGE)" if cache["bytes"] is None else f"{cache['bytes']:,} bytes by MEMORY USAGE"
    )
    kept = min(count, cache["limit"])
    yield f"{'a conversation in Redis:':38} {size}, {kept} messages of 1 KB (documented: about {DOCUMENTED['bytes']:,})"
    yield (
        f"{'in force:':38} {cache['limit']} messages, {cache['ttl']} s"
        f" (documented: {DOCUMENTED['messages']}, {DOCUMENTED['ttl']} s)"
    )
