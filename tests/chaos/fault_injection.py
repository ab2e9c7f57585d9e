"""Injects faults into Redis and PostgreSQL while workers use them, in an order that a seed decides."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import redis

from tests.infra.proxy import Late, Proxy
from tests.infra.redis_servers import RedisServer
from tests.infra.wire import Command

READONLY = b"-READONLY You can't write against a read only replica.\r\n"
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


def is_script(command: Command) -> bool:
    return command.name in ("EVALSHA", "EVAL")


class FaultInjector:
    """Injects faults from a thread of its own until it is stopped: `injected` counts them, `losses` are when Redis lost data."""

    def __init__(
        self, seed: int, server: RedisServer, replica: RedisServer, proxy: Proxy, sql: Proxy | None, keys: list[str]
    ) -> None:
        self.chance = random.Random(seed)
        self.server, self.replica, self.proxy, self.sql, self.keys = server, replica, proxy, sql, keys
        self.injected: Counter[str] = Counter()
        self.losses: list[float] = []
        self.failure: BaseException | None = None
        self._late: list[Late] = []
        self._dump: bytes | None = None
        self._failed_over = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._common: list[Callable[[], None]] = [self.evict] * 8
        self._common += [self.cut_before, self.cut_after, self.cut_reply, self.garble, self.double, self.late_copy] * 2
        self._common += [self.delay, self.refusal, self.swallow, self.lose_reply, self.late, self.release_late]
        self._rare: list[Callable[[], None]] = [self.flush, self.flush, self.flush, self.stall, self.remember_dump]
        self._rare += [self.restart, self.restart_from_dump, self.fail_over]
        if sql is not None:
            self._common += [self.cut_statement, self.cut_commit_before, self.cut_commit_after]

    def __enter__(self) -> FaultInjector:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self.release_late()
        self.proxy.heal()
        if self.sql is not None:
            self.sql.heal()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        # each of the rare faults happens at least once, in a new order each time, if there is time for it
        once = [*dict.fromkeys(self._rare)]
        self.chance.shuffle(once)
        try:
            while not self._stop.wait(self.chance.uniform(0, 0.04)):
                if self.chance.random() < 0.08:
                    self._inject(once.pop() if once else self.chance.choice(self._rare))
                else:
                    self._inject(self.chance.choice(self._common))
        except BaseException as error:  # noqa: BLE001 - the test gets it
            self.failure = error

    def _inject(self, fault: Callable[[], None]) -> None:
        fault()
        self.injected[fault.__name__.replace("_", " ")] += 1

    # loss

    def _note_loss(self) -> None:
        self.losses.append(time.monotonic())

    def evict(self) -> None:
        with contextlib.suppress(redis.RedisError), self.server.client() as client:
            client.unlink(*self.chance.sample(self.keys, min(2, len(self.keys))))
        self._note_loss()

    def flush(self) -> None:
        with contextlib.suppress(redis.RedisError), self.server.client() as client:
            client.flushall()
        self._note_loss()

    def restart(self) -> None:
        self.server.kill()
        self.server.start()
        self._note_loss()

    def remember_dump(self) -> None:
        self._dump = self.server.dump()

    def restart_from_dump(self) -> None:
        if self._dump is None:
            self.remember_dump()
            time.sleep(0.1)
        assert self._dump is not None
        self.server.restart_from(self._dump)
        self._note_loss()

    def fail_over(self) -> None:
        """To a replica that has been lagging. No client is connected to both, as behind one address."""
        if self._failed_over:
            return
        self._failed_over = True
        self.replica.pause_replication()
        time.sleep(0.1)
        self.proxy.refuse()
        self.proxy.cut_all()
        self.replica.promote()
        self.server = self.replica
        self.proxy.upstream = self.replica.url
        self._note_loss()
        self.proxy.accept()

    # commands

    def cut_before(self) -> None:
        self.proxy.cut_before(is_script)

    def cut_after(self) -> None:
        self.proxy.cut_after(is_script)

    def cut_reply(self) -> None:
        self.proxy.cut_reply(is_script, after=self.chance.randint(1, 40))

    def garble(self) -> None:
        self.proxy.garble(is_script, executed=self.chance.random() < 0.5)

    def double(self) -> None:
        self.proxy.double(is_script, times=self.chance.randint(1, 5))

    def late_copy(self) -> None:
        self._late.append(self.proxy.replay_late(is_script, times=self.chance.randint(1, 5), copy=True))

    def late(self) -> None:
        self._late.append(self.proxy.replay_late(is_script))

    def release_late(self) -> None:
        late, self._late = self._late, []
        for each in late:
            each.remove()
            with contextlib.suppress(OSError):
                each.release()

    def delay(self) -> None:
        self.proxy.delay(self.chance.uniform(0.01, 0.09), is_script)

    def refusal(self) -> None:
        self.proxy.answer(self.chance.choice([READONLY, LOADING]), is_script)

    def swallow(self) -> None:
        self.proxy.swallow(is_script)

    def lose_reply(self) -> None:
        self.proxy.lose_reply(is_script)

    def stall(self) -> None:
        """Commands wait longer than their callers, and are executed afterwards."""
        self.proxy.stall()
        time.sleep(0.25)
        self.proxy.resume()

    # statements

    def _sql(self) -> Any:
        assert self.sql is not None
        return self.sql

    def cut_statement(self) -> None:
        self._sql().cut_before(nth=self.chance.randint(1, 6))

    def cut_commit_before(self) -> None:
        self._sql().cut_before("COMMIT", nth=self.chance.randint(1, 3))

    def cut_commit_after(self) -> None:
        """Committed, but the client gets no answer."""
        self._sql().cut_after("COMMIT", nth=self.chance.randint(1, 3))
