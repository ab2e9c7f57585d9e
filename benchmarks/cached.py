"""The work that a cache is for, with the cache off, on and strict, beside the hand-written programs without and with Redis."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import redis
import sqlalchemy as sa
from flask import Flask

from . import core, driver, ours
from .data import TEXT, Data
from .programs import Program
from .timing import Times, in_turn
from .with_redis import WithRedis

MODES: dict[str, dict[str, Any]] = {"off": {}, "on": {}, "strict": {"cache_strict": True}}
"""What the package is told, by what the report calls it."""

LIMIT = 15
"""Messages of a history here: as many as the cache keeps unless it is told otherwise."""

BESIDE = ("Core", "driver", "with Redis")
"""The hand-written programs: Core and the driver without a cache, and the driver with redis-py."""

Call = Callable[[int], object]


@dataclasses.dataclass(frozen=True)
class Work:
    """One kind of work, and how many times the time of a hand-written program it may take, by mode."""

    name: str
    prepare: Callable[[Program, str, str], Call]
    """Given the program, the user and a conversation of 15 messages that is its own."""
    goals: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Line:
    """One work in one mode."""

    work: str
    mode: str
    statements: float
    """SQL statements of a call, without COMMIT."""
    round_trips: float
    """Calls of Redis."""
    ours: Times
    beside: dict[str, Times]
    goals: Mapping[str, float]


def _newest(program: Program, user: str, chat: str) -> Call:
    return lambda _: program.newest(user, chat, LIMIT)


def _turn(program: Program, user: str, chat: str) -> Call:
    def turn(_: int) -> None:
        program.newest(user, chat, LIMIT)
        program.append(user, chat, "user", TEXT)
        program.append(user, chat, "assistant", TEXT)

    return turn


def _append(program: Program, user: str, chat: str) -> Call:
    return lambda _: program.append(user, chat, "user", TEXT)


WORKS = (
    Work("newest 15, warm cache", _newest, {"on": {"with Redis": 1.5}}),
    Work("a turn: history of 15, two saves", _turn, {mode: {"Core": 1.2} for mode in MODES}),
    Work("append with a cache", _append),
)


def opened(name: str, url: str, redis_url: str) -> Program:
    """One of the programs, by its mode or by what it is called in `BESIDE`."""
    if name in MODES:
        return ours.Ours(url, None if name == "off" else redis_url, **MODES[name], **_prefix(name))
    if name == "Core":
        return core.Core(url)
    return driver.connect(url) if name == "driver" else WithRedis(driver.connect(url), redis_url)


def _prefix(mode: str) -> dict[str, str]:
    return {"cache_prefix": f"{mode}:"} if mode != "off" else {}


def measured(url: str, redis_url: str, data: Data, rounds: int, only: str) -> Iterator[Line]:
    """The lines whose name has *only* in it."""
    works = [work for work in WORKS if only in work.name]
    with contextlib.ExitStack() as stack:
        programs: dict[str, Any] = {}
        for name in (*MODES, *BESIDE) if works else ():
            program = opened(name, url, redis_url)
            stack.callback(program.close)
            programs[name] = stack.enter_context(program.in_thread())
        for work in works:
            calls = {name: work.prepare(one, data.user, data.chats.pop()) for name, one in programs.items()}
            times = in_turn(calls, rounds, {mode: programs[mode].context for mode in MODES})
            for mode in MODES:
                with programs[mode].context:
                    costs = _costs(programs[mode].app, calls[mode], redis_url)
                beside = {name: times[name] for name in BESIDE}
                yield Line(work.name, mode, *costs, times[mode], beside, work.goals.get(mode, {}))


def _costs(app: Flask, call: Call, redis_url: str, calls: int = 10) -> tuple[float, float]:
    """SQL statements and round trips to Redis of one call, of several on average."""
    seen: list[str] = []
    (engine,) = app.extensions["sqlalchemy"].engines.values()
    listener = _listener(seen)
    call(0)
    sa.event.listen(engine, "before_cursor_execute", listener)
    with redis.Redis.from_url(redis_url) as client:
        before = _scripts_run(client)
        for number in range(calls):
            call(number)
        round_trips = _scripts_run(client) - before
    sa.event.remove(engine, "before_cursor_execute", listener)
    return len(seen) / calls, round_trips / calls


def _listener(seen: list[str]) -> Callable[..., None]:
    return lambda connection, cursor, statement, *_: seen.append(statement)


def _scripts_run(client: Any) -> int:
    found = client.info("commandstats")
    return sum(found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))
