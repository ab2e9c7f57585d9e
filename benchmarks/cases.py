"""The cases: what is called, on how much data, and which ratio is the goal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from .data import TEXT, Data
from .programs import Program, turn

FLAT = 1.2
"""What counts as the same time."""

Call = Callable[[int], object]
"""Told which round it is."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One call, measured for every program; the report names it by *row* and *size*."""

    row: str
    size: str
    prepare: Callable[[Program], Call]
    core: float | None = None
    """The goal: at most so many times what SQLAlchemy Core takes."""
    driver: float | None = None
    """The goal beside psycopg. Not applied to sqlite3, whose calls are no round trips."""
    first: float | None = None
    """The goal beside the package's own time in the first case of this row: it stays flat as data grow."""


def cases(data: Data) -> Iterator[Case]:
    """All cases, those that change nothing first."""
    yield from _newest(data)
    yield from _pages(data)
    yield from _lists(data)
    yield from _appends(data)
    yield _turn(data)


def _newest(data: Data) -> Iterator[Case]:
    for conversation_id, count, flat in ((data.short, 15, None), (data.long, data.messages, FLAT)):
        yield Case(
            "newest 15, no cache",
            f"of {count:,}",
            lambda program, id=conversation_id: lambda _: program.newest(data.user, id, 15),  # type: ignore[misc]
            core=1.2,
            first=flat,
        )


def _pages(data: Data) -> Iterator[Case]:
    def at(seq: int | None) -> Callable[[Program], Call]:
        def prepare(program: Program) -> Call:
            before = None if seq is None else program.place(data.user, data.long, seq)
            return lambda _: program.page(data.user, data.long, 50, before)

        return prepare

    yield Case("any page of 50", f"newest of {data.messages:,}", at(None))
    yield Case("any page of 50", "middle", at(data.messages // 2), first=FLAT)
    yield Case("any page of 50", "oldest", at(51), first=FLAT)


def _lists(data: Data) -> Iterator[Case]:
    for place, (count, user) in enumerate(data.owners.items()):
        yield Case(
            "list, newest 20",
            f"of {count:,}",
            lambda program, user=user: lambda _: program.conversations(user, 20),  # type: ignore[misc]
            core=1.3,
            first=FLAT if place else None,
        )


def _appends(data: Data) -> Iterator[Case]:
    def first(program: Program) -> Call:
        return lambda number: program.append(data.user, data.empty_one(number), "user", TEXT)

    def further(program: Program) -> Call:
        return lambda number: program.append(data.user, data.growing, "user", TEXT)

    yield Case("append", "at 0 messages", first, core=1.2, driver=2.0)
    yield Case("append", f"at {data.messages:,}", further, core=1.2, driver=2.0, first=FLAT)


def _turn(data: Data) -> Case:
    def prepare(program: Program) -> Call:
        return lambda _: turn(program, data.user, data.growing, TEXT, TEXT)

    return Case("a turn", "history of 20, two saves", prepare, core=1.2)
