"""`python -m benchmarks`: measure, print the ratios, and with `--write` put them into docs/reference/benchmarks.md."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from example_app.servers import postgresql

from . import report, writers
from .cases import Case, cases
from .data import Data, Sizes, fill
from .ours import OursAnywhere
from .programs import Program, programs
from .timing import in_turn

QUICK = Sizes(messages=200, empty=20, users=(5, 20, 50))


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    sizes, rounds, seconds = (QUICK, 5, 0.2) if options.quick else (Sizes(), options.rounds, 3.0)
    measured = []
    for name in options.database or ("postgresql", "sqlite"):
        with _database(name) as url:
            print(f"\n{name}: filling ...", flush=True)
            data = fill(url, sizes)
            figures = list(_measured(url, data, rounds, options.only))
            shared = None if options.only else _writers(url, data, seconds, 1 if options.quick else 3)
            measured.append(report.Measured(name, report.version_of(url), figures, shared))
            print(report.table(measured[-1]), flush=True)
    if options.write:
        report.write(measured, rounds)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--database", action="append", choices=["postgresql", "sqlite"], help="default: both")
    parser.add_argument("--rounds", type=int, default=400, help="counted calls of each program in each case")
    parser.add_argument("--only", metavar="TEXT", help="only the cases whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="little data, few rounds: shows that it runs, no more")
    parser.add_argument("--write", action="store_true", help=f"write the figures into {report.PAGE.name}")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _database(name: str) -> Iterator[str]:
    """A new, empty database; PostgreSQL is made to keep what it has committed, as in production."""
    if name == "postgresql":
        with postgresql(fsync=True) as url:
            yield url
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder, 'benchmarks.db')}"


def _measured(url: str, data: Data, rounds: int, only: str | None) -> Iterator[report.Figures]:
    anywhere = OursAnywhere(url)
    with programs(url) as all_programs, contextlib.ExitStack() as stack:
        ready = [stack.enter_context(program.in_thread()) for program in [*all_programs, anywhere]]
        for case in cases(data):
            if only is None or only in f"{case.row} {case.size}":
                yield _figures(case, ready, rounds)
    anywhere.close()


def _figures(case: Case, ready: Sequence[Program], rounds: int) -> report.Figures:
    ours, core, driver, anywhere = in_turn({program.name: case.prepare(program) for program in ready}, rounds).values()
    figures = report.Figures(case, ours, core, driver, anywhere)
    print(report.line(figures), flush=True)
    return figures


def _writers(url: str, data: Data, seconds: float, runs: int) -> report.Writers:
    found = writers.throughput(url, data, seconds=seconds, runs=runs)
    return report.Writers(**found, dense=writers.is_dense(url, data))


if __name__ == "__main__":
    main()
