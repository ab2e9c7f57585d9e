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

import sqlalchemy as sa

from .cases import Case
from .timing import Times

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

HEADINGS = (
    *("work", "size", "ours", "Core", "driver", "ours : Core", "p95", "ours : driver", "p95", "growth"),
    *("goal", "reached"),
)


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
class Writers:
    """Messages per second of several writers on one conversation, run by run."""

    ours: list[float]
    core: list[float]
    driver: list[float]
    dense: bool


@dataclasses.dataclass(frozen=True)
class Measured:
    """What came out on one database."""

    database: str
    version: str
    durable: bool
    """Whether a commit waited for the disk, as it must in production."""
    figures: list[Figures]
    writers: Writers | None


def version_of(url: str) -> str:
    """The version of the database at *url*."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert connection.dialect.server_version_info is not None
        found = ".".join(map(str, connection.dialect.server_version_info))
    engine.dispose()
    return found


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
    if measured.writers is not None:
        yield _writers(measured.writers)


def _writers(writers: Writers) -> str:
    ours, core, driver = (statistics.median(runs) for runs in (writers.ours, writers.core, writers.driver))
    reached = "reached" if ours >= 0.8 * core else "**missed**"
    dense = "dense, nothing lost" if writers.dense else "**not dense**"
    return (
        f"\nEight writers in two processes on one conversation: {ours:,.0f} messages a second, {ours / core:.2f} times Core"
        f" ({core:,.0f}), {ours / driver:.2f} times the driver ({driver:,.0f}); goal at least 0.8 times Core: {reached}."
        f" The sequence afterwards: {dense}."
    )


def write(all_measured: Sequence[Measured], rounds: int) -> None:
    """Put the tables between the marks of the page."""
    text = PAGE.read_text()
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    parts = [_circumstances(rounds)]
    parts += [f"### {_title(one)}\n\n{table(one)}" for one in all_measured]
    PAGE.write_text(f"{head}\n" + "\n\n".join(parts) + f"\n{tail}")


def _circumstances(rounds: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("SQLAlchemy", "Flask-SQLAlchemy", "psycopg"))
    return (
        f"Measured on {dt.date.today():%Y-%m-%d} with Python {platform.python_version()}, {packages} on "
        f"{os.cpu_count()} cores, {rounds} calls of each program in each case, medians in milliseconds."
    )


def _title(measured: Measured) -> str:
    name = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}[measured.database]
    return f"{name} {measured.version}" + ("" if measured.durable else ", not waiting for the disk")
