"""GET of 15 messages over HTTP, beside a bare Flask route that returns the same bytes: in the test client, and from gunicorn.

And beside a route by hand that fetches them from Redis, which no route with a cache can beat.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis
from flask import Flask, Response

from example_app.servers import Guarded

from .data import Data
from .ours import make_app
from .timing import Times, in_turn

MODES: dict[str, dict[str, Any]] = {
    "off": {},
    "on": {},
    "strict": {"cache_strict": True},
    "on, camelCase": {"json_case": "camel"},
}
BARE, BY_HAND = "bare", "by hand: one LRANGE"
GOAL = 0.5
"""At least so many times the bare route's rate, with the cache on."""

CONNECTIONS = 4
"""Kept-alive connections of the client, each with one request under way all the time."""

_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Line:
    """The same GET in one mode."""

    mode: str
    ours: Times
    bare: Times
    """Both in the test client."""
    rate: list[float]
    """Answers a second of gunicorn, run by run."""
    bare_rate: list[float]


def create_app(settings: str) -> Flask:
    """The app that the file *settings* describes, for gunicorn."""
    found = json.loads(Path(settings).read_text())
    if found["mode"] in (BARE, BY_HAND):
        body = Path(found["body"]).read_bytes()
        return bare(body) if found["mode"] == BARE else by_hand(body, found["redis_url"])
    return app_of(found["mode"], found["url"], found["redis_url"])


def app_of(mode: str, url: str, redis_url: str) -> Flask:
    prefix = {} if mode == "off" else {"cache_prefix": f"http {mode}:"}
    return make_app(url, None if mode == "off" else redis_url, **MODES[mode], **prefix)[0]


def bare(body: bytes) -> Flask:
    """What Flask itself takes: a route with a parameter, and a constant, in an app with a key for sessions."""
    app = Flask("bare")
    app.secret_key = "a key of the benchmarks, long enough"

    @app.get("/api/conversations/<conversation_id>/messages")
    def messages(conversation_id: str) -> Response:
        return Response(body, mimetype="application/json")

    return app


def by_hand(body: bytes, redis_url: str) -> Flask:
    """The least that a route with Redis does: fetch the messages and join them, for whoever asks."""
    app = Flask("by hand")
    app.secret_key = "a key of the benchmarks, long enough"
    client = redis.Redis.from_url(redis_url)
    client.delete("by-hand:http")
    client.rpush("by-hand:http", *(json.dumps(message) for message in json.loads(body)["messages"]))

    @app.get("/api/conversations/<conversation_id>/messages")
    def messages(conversation_id: str) -> Response:
        found = client.lrange("by-hand:http", 0, 14)
        return Response(b'{"messages":[' + b",".join(found) + b"]}", mimetype="application/json")

    return app


def measured(url: str, redis_url: str, data: Data, rounds: int, seconds: float, runs: int) -> Iterator[Line]:
    """All modes, with the rates of gunicorn."""
    path = f"/api/conversations/{data.short}/messages?limit=15"
    apps = {mode: app_of(mode, url, redis_url) for mode in MODES}
    body = apps["on"].test_client().get(path, headers={"X-User": data.user}).get_data()
    apps[BARE], apps[BY_HAND] = bare(body), by_hand(body, redis_url)
    times = in_turn({name: _getter(app, path, data.user) for name, app in apps.items()}, rounds)
    rates = _rates(url, redis_url, body, path, data.user, seconds, runs)
    for mode in (*MODES, BY_HAND):
        yield Line(mode, times[mode], times[BARE], rates[mode], rates[BARE])
    for mode in MODES:
        with apps[mode].app_context():
            for engine in apps[mode].extensions["sqlalchemy"].engines.values():
                engine.dispose()


def _getter(app: Flask, path: str, user: str) -> Any:
    client = app.test_client()

    def get(_: int) -> None:
        answer = client.get(path, headers={"X-User": user})
        assert answer.status_code == 200, answer.get_data(as_text=True)

    return get


def _rates(
    url: str, redis_url: str, body: bytes, path: str, user: str, seconds: float, runs: int
) -> dict[str, list[float]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        Path(folder, "body").write_bytes(body)
        found: dict[str, list[float]] = {name: [] for name in (*MODES, BY_HAND, BARE)}
        ports = {}
        for name in found:
            settings = {"mode": name, "url": url, "redis_url": redis_url, "body": str(folder / "body")}
            ports[name] = stack.enter_context(_gunicorn(settings))
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-User: {user}\r\n\r\n".encode()
        for _ in range(runs):
            for name, port in ports.items():
                found[name].append(_loaded(port, request, seconds))
    return found


@contextlib.contextmanager
def _gunicorn(settings: dict[str, str]) -> Iterator[int]:
    """The port of a gunicorn with one worker."""
    scratch = Path(tempfile.mkdtemp())
    Path(scratch, "app.json").write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "gunicorn", "--workers=1", "--worker-class=gthread", f"--threads={CONNECTIONS}"]
    command += ["--keep-alive=60", f"--bind=127.0.0.1:{port}", f"--chdir={root}", "--log-level=warning"]
    command += [f"benchmarks.served:create_app('{scratch / 'app.json'}')"]
    with Guarded(command, scratch, lambda: _listens(port)):
        yield port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _loaded(port: int, request: bytes, seconds: float) -> float:
    """Answers a second to a client in another process."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    client = context.Process(target=_client, args=(port, request, seconds, answers))
    client.start()
    rate: float = answers.get(timeout=seconds + 120)
    client.join()
    return rate


def _client(port: int, request: bytes, seconds: float, answers: Any) -> None:
    """Ask on all connections, read on all, and again: bytes only, since two cores are all there are."""
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(CONNECTIONS)]
    for _ in range(30):
        _round(sockets, request)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        _round(sockets, request)
        count += len(sockets)
    answers.put(count / (time.perf_counter() - started))
    for each in sockets:
        each.close()


def _round(sockets: Sequence[socket.socket], request: bytes) -> None:
    for each in sockets:
        each.sendall(request)
    for each in sockets:
        _read(each)


def _read(connection: socket.socket) -> None:
    """One whole answer, which must be a good one."""
    found = connection.recv(1 << 16)
    while (end := found.find(b"\r\n\r\n")) < 0:
        found += _more(connection)
    length = _LENGTH.search(found, 0, end + 4)
    if not found.startswith(b"HTTP/1.1 200") or length is None:
        raise RuntimeError(f"No good answer: {found[:200]!r}")
    missing = end + 4 + int(length[1]) - len(found)
    while missing > 0:
        missing -= len(_more(connection))


def _more(connection: socket.socket) -> bytes:
    found = connection.recv(1 << 16)
    if not found:
        raise RuntimeError("The server has closed the connection.")
    return found
