"""One stress test: workers, injected faults, and the judge afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask

from tests.infra.proxy import Proxy
from tests.infra.redis_servers import RedisServer

from . import event_log
from .fault_injection import FaultInjector
from .oracle import Judge, Read, Written
from .worker import Order

TREE = Path(__file__).parents[2]
WORKER_TIMEOUT = 60


@dataclasses.dataclass
class Outcome:
    """The results of the workers of one kind."""

    judge: Judge
    reads: int
    writes: int
    errors: list[str]
    unavailable: int
    cache: Counter[str]

    @property
    def wrong(self) -> int:
        return len(self.judge.wrong)

    @property
    def share_wrong(self) -> float:
        return self.wrong / max(self.reads, 1)


@dataclasses.dataclass
class StressResult:
    """The outcomes of one stress test, and the number of injected faults by kind."""

    ours: Outcome
    naive: Outcome | None
    injected: Counter[str]


def run_stress(
    app: Flask, folder: Path, *, seed: int, seconds: float, strict: bool = False, naive: bool = True, workers: int = 2
) -> StressResult:
    """Let workers write and read on *app*'s database for *seconds* while faults are injected; the naive ones beside ours."""
    service = app.conversations.as_user("ada", app=app)  # type: ignore[attr-defined]
    with app.app_context():
        engine: sa.Engine = app.db.engine  # type: ignore[attr-defined]
    event_log.begin(engine)
    ours = [service.create_conversation()["id"] for _ in range(3)]
    theirs = [service.create_conversation()["id"] for _ in range(1)] if naive else []
    staleness = 1.5
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        replica = stack.enter_context(server.replica())
        proxy = stack.enter_context(Proxy(server))
        url = engine.url.render_as_string(hide_password=False)
        is_postgresql = engine.dialect.name == "postgresql"
        sql = stack.enter_context(Proxy(url)) if is_postgresql else None
        common: dict[str, Any] = {
            "database_url": sql.url if sql else url,
            "redis_url": proxy.url,
            "seed": seed,
            "max_staleness": staleness,
            "strict": strict,
            "failing": 0.0 if is_postgresql else 0.003,
        }
        orders = [
            Order(
                number,
                conversations=ours,
                out=str(folder / f"ours-{number}.json"),
                writers=2,
                readers=3,
                pause=0.0 if is_postgresql else 0.03,
                **common,
            )
            for number in range(workers)
        ]
        if naive:
            orders.append(
                Order(
                    workers,
                    conversations=theirs,
                    out=str(folder / "naive.json"),
                    naive=True,
                    writers=2,
                    readers=1,
                    pause=0.0,
                    **common,
                )
            )
        keys = [f"conversation:{{{each}}}:messages" for each in ours] + [
            f"conversation:{each}:messages" for each in theirs
        ]
        running = stack.enter_context(_working(orders))
        with FaultInjector(seed, server, replica, proxy, sql, keys) as injector:
            time.sleep(seconds)
        running.stop()
    states = event_log.states(engine)
    reports = [json.loads(Path(order.out).read_text()) for order in orders]
    return StressResult(
        _outcome(reports[:workers], states, None if strict else staleness, injector.losses),
        _outcome(reports[workers:], states, None, ()) if naive else None,
        injector.injected,
    )


def _outcome(reports: list[Any], states: Any, staleness: float | None, losses: Any) -> Outcome:
    written = [_written(each) for report in reports for each in report["written"]]
    reads = [Read(*each) for report in reports for each in report["read"]]
    judge = Judge(states, written, max_staleness=staleness, losses=losses)
    for read in reads:
        judge.judge(read)
    cache: Counter[str] = Counter()
    for report in reports:
        cache.update({name: count for name, count in report["cache"].items() if type(count) is int})
    return Outcome(
        judge,
        len(reads),
        sum(each.acknowledged is not None for each in written),
        [error for report in reports for error in report["errors"]],
        sum(report["unavailable"] for report in reports),
        cache,
    )


def _written(fields: list[Any]) -> Written:
    made = Written(*fields)
    made.change = tuple(made.change) if made.change else None
    return made


class _Working:
    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self.processes = processes

    def signal(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    def stop(self) -> None:
        self.signal()
        for process in self.processes:
            stderr = process.communicate(timeout=WORKER_TIMEOUT)[1]
            assert process.returncode == 0, stderr


@contextlib.contextmanager
def _working(orders: list[Order]) -> Iterator[_Working]:
    """The workers, at work."""
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": ""}
    processes: list[subprocess.Popen[str]] = []
    try:
        for order in orders:
            command = [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "tests.chaos.worker",
                json.dumps(dataclasses.asdict(order)),
            ]
            processes.append(subprocess.Popen(command, cwd=TREE, env=environment, text=True, **pipes))
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        working = _Working(processes)
        working.signal()
        yield working
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
