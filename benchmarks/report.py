"""The figures as a table of ratios with goals, on the terminal and in docs/reference/benchmarks.md."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import redis
import sqlalchemy as sa

from . import cached, served, turns
from .cases import Case
from .timing import Times

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "benchmarks.md"

HEADINGS = (
    *("work", "size", "ours", "Core", "driver", "ours : Core", "p95", "ours : driver", "p95", "growth"),
    *("goal", "reached"),
)
CACHE_HEADINGS = (
    *("work", "cache", "SQL", "Redis", "ours", "Core", "driver", "with Redis"),
    *("ours : Core", "p95", "ours : with Redis", "p95", "ours : driver", "goal", "reached"),
)
HTTP_HEADINGS = (
    *("cache", "test client", "bare route", "rate : bare", "p95", "gunicorn", "bare route", "rate : bare"),
    *("goal", "reached"),
)
WRITERS = "8 writers in 2 processes on one conversation"
TURNS = "turns: a question and its answer"
HTTP = "GET of 15 messages over HTTP: the test client, and gunicorn with one worker"


@dataclasses.dataclass(frozen=True)
class Figures:
    """The times of one case."""

    case: Case
    ours: Times
    core: Times
    driver: Times
    anywhere: Times
    first: Times | None = None
    """Ours in the first case of the same row."""


@dataclasses.dataclass(frozen=True)
class Turns:
    """What turns cost on one database."""

    database: str
    version: str
    found: turns.Found


@dataclasses.dataclass(frozen=True)
class Measured:
    """What came out on one database, without a cache."""

    database: str
    version: str
    durable: bool
    """Whether a commit waited for the disk, as it must in production."""
    figures: list[Figures]


@dataclasses.dataclass(frozen=True)
class Writers:
    """Messages per second of eight writers on one conversation, run by run, and whether its sequence was dense, by program."""

    rates: dict[str, list[float]]
    dense: dict[str, bool]


@dataclasses.dataclass(frozen=True)
class WithCache:
    """What came out on one database, and a Redis."""

    database: str
    version: str
    redis: str
    lines: list[cached.Line]
    writers: Writers | None
    http: list[served.Line]


def version_of(url: str) -> str:
    """The version of the database at *url*."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert connection.dialect.server_version_info is not None
        found = ".".join(map(str, connection.dialect.server_version_info))
    engine.dispose()
    return found


def redis_version(url: str) -> str:
    """The version of the Redis at *url*."""
    with redis.Redis.from_url(url) as client:
        return str(client.info("server")["redis_version"])


def line(figures: Figures) -> str:
    """One case in words, as soon as it is known."""
    ours, core, driver = figures.ours, figures.core, figures.driver
    return (
        f"{figures.case.row + ', ' + figures.case.size:42} ours {ours.p50:.3f} ms"
        f" = {ours.p50 / core.p50:.2f} x Core, {ours.p50 / driver.p50:.2f} x driver"
    )


def table(measured: Measured) -> str:
    """The ratios of one database as a Markdown table, p50 and p95, and the goals."""
    lines = [_row(HEADINGS), _row(["---"] * 2 + ["--:"] * (len(HEADINGS) - 3) + ["---"])]
    lines += [_row(_cells(figures, measured.database)) for figures in measured.figures]
    return "\n".join(_aligned(lines) + list(_further(measured)))


def cached_line(line: cached.Line) -> str:
    """One line with a cache in words, as soon as it is known."""
    others = ", ".join(f"{line.ours.p50 / times.p50:.2f} x {name}" for name, times in line.beside.items())
    return f"{line.work + ', ' + line.mode:42} ours {line.ours.p50:.3f} ms = {others}"


def cache_tables(found: WithCache) -> str:
    """The figures with a cache as Markdown."""
    tables = []
    if found.lines:
        rows = [CACHE_HEADINGS, ["---"] * 2 + ["--:"] * 11 + ["---"] * 2, *map(_cached_cells, found.lines)]
        tables.append("\n".join(_aligned([_row(row) for row in rows])))
    if found.writers is not None:
        tables.append(_writers(found.writers))
    if found.http:
        tables.append(_http(found.http))
    return "\n\n".join(tables)


def _cached_cells(line: cached.Line) -> list[str]:
    ratios = {name: line.ours.p50 / times.p50 for name, times in line.beside.items()}
    return [
        line.work,
        line.mode,
        f"{line.statements:g}",
        f"{line.round_trips:g}",
        f"{line.ours.p50:.2f} ms",
        *(f"{line.beside[name].p50:.2f} ms" for name in cached.BESIDE),
        *(
            cell
            for name in ("Core", "with Redis")
            for cell in (f"{ratios[name]:.2f}", f"{line.ours.p95 / line.beside[name].p95:.2f}")
        ),
        f"{ratios['driver']:.2f}",
        ", ".join(f"{name} ≤ {goal:g}" for name, goal in line.goals.items()),
        ", ".join("yes" if ratios[name] <= goal else "**no**" for name, goal in line.goals.items()),
    ]


def _writers(found: Writers) -> str:
    """Eight writers on one conversation: the goal is beside Core, whether or not there is a cache."""
    rates = {name: statistics.median(runs) for name, runs in found.rates.items()}
    rows = [["cache", "messages a second", "ours : Core", "ours : with Redis", "sequence", "goal", "reached"]]
    rows.append(["---", *["--:"] * 3, *["---"] * 3])
    for name in cached.MODES:
        ratio = rates[name] / rates["Core"]
        dense = "dense, nothing lost" if found.dense[name] else "**not dense**"
        reached = "yes" if ratio >= 0.8 and found.dense[name] else "**no**"
        ours, by_hand = f"{rates[name]:,.0f}", f"{rates[name] / rates['with Redis']:.2f}"
        rows.append([name, ours, f"{ratio:.2f}", by_hand, dense, "Core ≥ 0.8", reached])
    others = ", ".join(f"{name} {rates[name]:,.0f}" for name in cached.BESIDE)
    return f"{WRITERS}; by hand: {others} a second.\n\n" + "\n".join(_aligned([_row(row) for row in rows]))


def _http(lines: Sequence[served.Line]) -> str:
    """Rates beside the bare route's: more is better."""
    rows = [list(HTTP_HEADINGS), ["---", *["--:"] * 7, "---", "---"]]
    for line in lines:
        rate, bare = statistics.median(line.rate), statistics.median(line.bare_rate)
        in_client, in_server = line.bare.p50 / line.ours.p50, rate / bare
        has_goal = line.mode == "on"
        reached = ", ".join("yes" if one >= served.GOAL else "**no**" for one in (in_client, in_server))
        rows.append(
            [line.mode, f"{line.ours.p50:.2f} ms", f"{line.bare.p50:.2f} ms", f"{in_client:.2f}"]
            + [f"{line.bare.p95 / line.ours.p95:.2f}", f"{rate:,.0f}/s", f"{bare:,.0f}/s", f"{in_server:.2f}"]
            + ([f"≥ {served.GOAL:g}, both", reached] if has_goal else ["", ""])
        )
    return f"{HTTP}.\n\n" + "\n".join(_aligned([_row(row) for row in rows]))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _aligned(lines: list[str]) -> list[str]:
    """The lines with cells of equal width, for a reader without Markdown."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [_row([cell.ljust(width) for cell, width in zip(row, widths, strict=True)]) for row in rows]


def _cells(figures: Figures, database: str) -> list[str]:
    case, ours, core, driver = figures.case, figures.ours, figures.core, figures.driver
    goals = list(_goals(figures, database))
    return [
        case.row,
        case.size,
        *(f"{times.p50:.2f} ms" for times in (ours, core, driver)),
        f"{ours.p50 / core.p50:.2f}",
        f"{ours.p95 / core.p95:.2f}",
        f"{ours.p50 / driver.p50:.2f}",
        f"{ours.p95 / driver.p95:.2f}",
        f"{ours.p50 / figures.first.p50:.2f}" if figures.first else "",
        ", ".join(f"{what} ≤ {goal:g}" for what, goal, _ in goals),
        ", ".join("yes" if ratio <= goal else "**no**" for _, goal, ratio in goals),
    ]


def _goals(figures: Figures, database: str) -> Iterator[tuple[str, float, float]]:
    """The goals of one case: beside what, at most how many times, and how many times it is."""
    case, ours = figures.case, figures.ours.p50
    if case.core is not None:
        yield "Core", case.core, ours / figures.core.p50
    if case.driver is not None and database == "postgresql":
        yield "driver", case.driver, ours / figures.driver.p50
    if case.first is not None and figures.first is not None:
        yield "growth", case.first, ours / figures.first.p50


def _further(measured: Measured) -> Iterator[str]:
    anywhere = [figures.anywhere.p50 - figures.ours.p50 for figures in measured.figures]
    if anywhere:
        yield f"\n`as_user(app=app)`, which opens an app context for each call, adds {statistics.median(anywhere):.2f} ms a call."


def write(
    measured: Sequence[Measured], with_cache: Sequence[WithCache], of_turns: Sequence[Turns], rounds: int
) -> None:
    """Put the tables between the marks of the page; a part that was not measured stays as it is."""
    if measured:
        parts = [_circumstances(rounds), *(f"### {_title(one)}\n\n{table(one)}" for one in measured)]
        _put("figures", parts)
    if with_cache:
        parts = [_circumstances(rounds, "redis", "gunicorn")]
        parts += [f"### {_title(one)}, Redis {one.redis}\n\n{cache_tables(one)}" for one in with_cache]
        _put("figures with a cache", parts)
    if of_turns:
        parts = [_circumstances(rounds), *(f"### {_title(one)}: turns\n\n{turns.table(one.found)}" for one in of_turns)]
        _put("figures of turns", parts)


def _put(name: str, parts: Sequence[str]) -> None:
    begin, end = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
    text = PAGE.read_text()
    head, tail = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    PAGE.write_text(f"{head}\n" + "\n\n".join(parts) + f"\n{tail}")


def _circumstances(rounds: int, *further: str) -> str:
    names = ("SQLAlchemy", "Flask-SQLAlchemy", "psycopg", *further)
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"Measured on {dt.date.today():%Y-%m-%d} with Python {platform.python_version()}, {packages} on "
        f"{os.cpu_count()} cores, {rounds} calls of each program in each case, medians in milliseconds."
    )


def _title(measured: Measured | WithCache | Turns) -> str:
    name = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}[measured.database]
    durable = not isinstance(measured, Measured) or measured.durable
    return f"{name} {measured.version}" + ("" if durable else ", not waiting for the disk")
