"""Redis is dead, stalled, locked, flapping, full, read only or mad: nobody gets an error, and the cache is warm afterwards."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.proxy import Proxy
from tests.infra.redis_servers import RedisServer

DEADLINE = 60


@contextlib.contextmanager
def dead(server: RedisServer, proxy: Proxy) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextlib.contextmanager
def refused(server: RedisServer, proxy: Proxy) -> Iterator[None]:
    proxy.refuse()
    proxy.cut_all()
    yield
    proxy.accept()


@contextlib.contextmanager
def stalled(server: RedisServer, proxy: Proxy) -> Iterator[None]:
    proxy.stall()
    yield
    proxy.resume()


@contextlib.contextmanager
def wrong_password(server: RedisServer, proxy: Proxy) -> Iterator[None]:
    with server.client() as client:
        client.config_set("requirepass", "another")
        proxy.cut_all()
        yield
        client.config_set("requirepass", "")


@contextlib.contextmanager
def flapping(server: RedisServer, proxy: Proxy) -> Iterator[None]:
    stop = threading.Event()

    def flap() -> None:
        while not stop.wait(0.03):
            proxy.refuse()
            proxy.cut_all()
            stop.wait(0.03)
            proxy.accept()

    thread = threading.Thread(target=flap)
    thread.start()
    yield
    stop.set()
    thread.join()
    proxy.accept()


@contextlib.contextmanager
def full(server: RedisServer, proxy: Proxy) -> Iterator[None]:
    with server.client() as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


@contextlib.contextmanager
def read_only(server: RedisServer, proxy: Proxy) -> Iterator[None]:
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", 1)
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextlib.contextmanager
def mad(server: RedisServer, proxy: Proxy) -> Iterator[None]:
    with proxy.garble(times=None):
        yield


OUTAGES = [dead, refused, stalled, wrong_password, flapping, full, read_only, mad]
CLOSED_TO_ALL = (dead, refused, stalled, wrong_password, mad)
"""Those in which no command is answered, so that the circuit breaker has to open."""


def timed(call: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    answer = call()
    return answer, (time.perf_counter() - began) * 1000


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__.replace("_", " "))
def test_an_outage_of_redis_is_not_noticed(make_app, outage, long, figure):
    """Reads and writes go on and are right; while the circuit breaker is open Redis is not asked; then it is used again."""
    with RedisServer() as server, Proxy(server) as proxy:
        app = make_app(CONVERSATIONS_REDIS_URL=proxy.url)
        plain = make_app(CONVERSATIONS_CACHE=False)
        ada = app.conversations.as_user("ada", app=app)
        exact = plain.conversations.as_user("ada", app=plain)
        chat = ada.create_conversation(messages=[{"role": "user", "content": "before"}])["id"]

        def stats() -> Any:
            return app.conversations.get_stats(app=app)["cache"]

        def said() -> list[str]:
            return [message["content"] for message in ada.get_conversation_history(chat, 10)]

        said()
        warm = stats()["hits"]
        assert said() == ["before"]
        assert stats()["hits"] == warm + 1
        usual = min(timed(lambda: exact.get_conversation_history(chat, 10))[1] for _ in range(10))
        expected, slowest, unasked, open_costs = ["before"], 0.0, 0, []
        with outage(server, proxy):
            first = timed(said)
            assert first[0] == expected
            lasting = (20 if outage in (dead, stalled) else 3) if long else 0.4
            until = time.monotonic() + lasting
            number = 0
            while time.monotonic() < until:
                number += 1
                with proxy.counting() as seen:
                    state = stats()["breaker"]
                    answer, took = timed(said)
                    still = stats()["breaker"]
                assert answer == expected
                slowest = max(slowest, took)
                if state["reads"] == still["reads"] == "open":
                    assert seen.round_trips == 0
                    unasked, open_costs = unasked + 1, [*open_costs, took]
                if number % 10 == 1:
                    text = f"message {number}"
                    slowest = max(slowest, timed(lambda text=text: ada.save_message(chat, "user", text))[1])
                    expected = [*expected, text][-10:]
                time.sleep(0.02 if long else 0)
            if outage in CLOSED_TO_ALL:
                assert unasked
                assert stats()["breaker"]["opened"]
        back, hits = time.monotonic(), stats()["hits"]
        while stats()["hits"] == hits:
            assert said() == expected
            assert time.monotonic() - back < DEADLINE, "not warm again"
            time.sleep(0.01)
        warm_again = time.monotonic() - back
        open_costs.sort()
        typical = open_costs[int(len(open_costs) * 0.95)] - usual if open_costs else 0.0
        figure(
            f"Redis {outage.__name__.replace('_', ' ')}: 0 errors; first {first[1] - usual:+.0f} ms, slowest {slowest:.0f} ms, "
            f"{unasked} reads with an open breaker and no round trip ({typical:+.1f} ms, 95th percentile); "
            f"warm again after {warm_again:.1f} s"
        )
