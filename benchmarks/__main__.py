"""`python -m benchmarks`: measure, print the ratios, and with `--write` put them into docs/reference/benchmarks.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from example_app.servers import postgresql, redis_server

from . import cached, core, driver, report, served, turns, writers
from .cases import Case, cases
from .data import Data, Sizes, fill
from .ours import Ours, OursAnywhere
from .programs import Program
from .timing import in_turn

WRITES = ("append", "a turn")
"""What is measured a second time without the disk: what is left then is the programs' own time."""

QUICK = Sizes(messages=200, empty=20, users=(5, 20, 50))
PARTS = ("database", "cache", "turns")


@contextlib.contextmanager
def programs(url: str) -> Iterator[list[Program]]:
    """The programs on the database at *url*, the package first."""
    opened: list[Program] = [Ours(url), core.Core(url), driver.connect(url)]
    try:
        yield opened
    finally:
        for program in opened:
            program.close()


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    sizes, rounds, seconds, runs = (QUICK, 5, 0.2, 1) if options.quick else (Sizes(), options.rounds, 3.0, 3)
    parts = [part for part in PARTS if options.only not in PARTS or options.only == part]
    only = "" if options.only in PARTS else options.only
    measured, with_cache, of_turns = [], [], []
    for name in options.database or ("postgresql", "sqlite"):
        with _database(name, durable=True) as url:
            print(f"\n{name}: filling ...", flush=True)
            data = fill(url, sizes)
            if "database" in parts:
                figures = list(_measured(url, data, rounds, [only]))
                measured.append(report.Measured(name, report.version_of(url), True, figures))
                print(report.table(measured[-1]), flush=True)
            if "cache" in parts:
                with redis_server() as redis_url:
                    found = _with_cache(name, url, redis_url, data, rounds, seconds, runs, only)
                with_cache.append(found)
                print(report.cache_tables(found), flush=True)
            if "turns" in parts and (not only or only in report.TURNS):
                found = turns.measured(url, data, rounds, quick=options.quick)
                of_turns.append(report.Turns(name, report.version_of(url), found))
                print(turns.table(found), flush=True)
        writes = [text for text in WRITES if only in text or text in only]
        if "database" in parts and writes:
            with _database(name, durable=False) as url:
                print(f"\n{name}, not waiting for the disk: filling ...", flush=True)
                figures = list(_measured(url, fill(url, sizes), rounds, writes))
                measured.append(report.Measured(name, report.version_of(url), False, figures))
                print(report.table(measured[-1]), flush=True)
    if options.write:
        report.write(measured, with_cache, of_turns, rounds)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--database", action="append", choices=["postgresql", "sqlite"], help="default: both")
    parser.add_argument("--rounds", type=int, default=400, help="counted calls of each program in each case")
    parser.add_argument(
        "--only",
        metavar="TEXT",
        default="",
        help="'database', 'cache' or 'turns', one part of it; or only the cases whose name has this in it",
    )
    parser.add_argument("--quick", action="store_true", help="little data, few rounds: shows that it runs, no more")
    parser.add_argument("--write", action="store_true", help=f"write the figures into {report.PAGE.name}")
    options = parser.parse_args(arguments)
    if options.write and (options.quick or options.database or options.only not in ("", *PARTS)):
        parser.error("--write replaces all figures of a part: it goes with --only and the name of a part, or without.")
    return options


@contextlib.contextmanager
def _database(name: str, *, durable: bool) -> Iterator[str]:
    """A new, empty database that keeps what it has committed, as in production; or one that does not wait for the disk."""
    if name == "postgresql":
        with postgresql(fsync=durable) as url:
            yield url
    else:
        memory = None if durable or not os.path.isdir("/dev/shm") else "/dev/shm"
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            yield f"sqlite:///{Path(folder, 'benchmarks.db')}"


def _measured(url: str, data: Data, rounds: int, only: Sequence[str]) -> Iterator[report.Figures]:
    anywhere = OursAnywhere(url)
    with programs(url) as all_programs, contextlib.ExitStack() as stack:
        ready = [stack.enter_context(program.in_thread()) for program in [*all_programs, anywhere]]
        firsts: dict[str, Case] = {}
        for case in cases(data):
            first = firsts.setdefault(case.row, case)
            if any(text in f"{case.row} {case.size}" for text in only):
                yield _figures(case, first, ready, rounds)
    anywhere.close()


def _figures(case: Case, first: Case, ready: Sequence[Program], rounds: int) -> report.Figures:
    """The times of one case, and those of the first case of its row in the same rounds, since growth is a ratio too."""
    calls = {program.name: case.prepare(program) for program in ready}
    if first is not case:
        calls["first"] = first.prepare(ready[0])
    figures = report.Figures(case, *in_turn(calls, rounds).values())
    print(report.line(figures), flush=True)
    return figures


def _with_cache(
    name: str, url: str, redis_url: str, data: Data, rounds: int, seconds: float, runs: int, only: str
) -> report.WithCache:
    lines = []
    for line in cached.measured(url, redis_url, data, rounds, only):
        print(report.cached_line(line), flush=True)
        lines.append(line)
    shared = _writers(url, redis_url, data, seconds, runs) if only in report.WRITERS else None
    http = list(served.measured(url, redis_url, data, rounds, seconds, runs)) if only in report.HTTP else []
    return report.WithCache(name, report.version_of(url), report.redis_version(redis_url), lines, shared, http)


def _writers(url: str, redis_url: str, data: Data, seconds: float, runs: int) -> report.Writers:
    chats = {name: data.chats.pop() for name in (*cached.MODES, *cached.BESIDE)}
    rates = writers.throughput(url, redis_url, data.user, chats, seconds=seconds, runs=runs)
    return report.Writers(rates, {name: writers.is_dense(url, chat) for name, chat in chats.items()})


if __name__ == "__main__":
    main()
