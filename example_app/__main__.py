"""`python -m example_app`: migrate the database, print the logins, and serve the chat until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from flask import Flask
from flask_migrate import upgrade  # type: ignore[import-untyped]
from werkzeug.serving import BaseWSGIServer, make_server

from . import create_app, people, responder, servers
from .extensions import db


def main() -> None:
    """Run the demo."""
    asked = _arguments()
    # so that the PostgreSQL and Redis that we started are shut down properly
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt), _databases(asked.full, asked.data) as (settings, notes):
        app = create_app(settings, instance_path=asked.data)
        prepare(app)
        server = _server(app, asked.host, asked.port)
        _say(app, server, notes)
        server.serve_forever()


def prepare(app: Flask) -> None:
    """Migrate the tables and add the demo's users."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with app.app_context():
        upgrade()
        people.add_people()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m example_app", description=__doc__)
    parser.add_argument("--full", action="store_true", help="start a PostgreSQL and a Redis, and use both")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; the passwords are public knowledge")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes any free one (5000, or the next free one)")
    parser.add_argument("--data", type=os.path.abspath, help="folder of the database and the keys (instance)")
    return parser.parse_args()


@contextlib.contextmanager
def _databases(full: bool, data: str | None) -> Iterator[tuple[dict[str, str], list[str]]]:
    """The settings with the addresses of the databases, and lines about them for the terminal."""
    if not full:
        yield {}, []
        return
    folder = Path(data or Path(__file__).parents[1] / "instance") / "full"
    with contextlib.ExitStack() as running:
        try:
            url = running.enter_context(servers.postgresql(folder, fsync=True))
        except servers.Unavailable as reason:
            sys.exit(f"make demo-full needs PostgreSQL. {reason}")
        cache, note = _cache(running)
        yield {"SQLALCHEMY_DATABASE_URI": url, **cache}, [note]


def _cache(running: contextlib.ExitStack) -> tuple[dict[str, str], str]:
    """The settings of the cache, and a line about it for the terminal. It is only a cache: no data are lost with it."""
    try:
        url = running.enter_context(servers.redis_server())
    except servers.Unavailable as reason:
        return {}, f"Cache          none, so everything is read from the database. {reason}"
    return {"CONVERSATIONS_REDIS_URL": url}, "Cache          Redis, with the newest messages of conversations in use"


def _server(app: Flask, host: str, port: int | None) -> BaseWSGIServer:
    """A server on *port*; without one, on 5000 or the next that is free."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a log line per request would scroll the address away
    return make_server(host, _free_port(host) if port is None else port, app, threaded=True)


def _free_port(host: str) -> int:
    for port in range(5000, 5020):
        with contextlib.suppress(OSError), socket.create_server((host, port)):
            return port
    return 0


def _say(app: Flask, server: BaseWSGIServer, notes: list[str]) -> None:
    with app.app_context():
        url = db.engine.url
    where = f"SQLite, {url.database}" if url.get_backend_name() == "sqlite" else "PostgreSQL"
    print(
        "Flask-Conversations, the example app",
        "",
        f"  http://{'[' + server.host + ']' if ':' in server.host else server.host}:{server.port}",
        "",
        *(f"  log in as {name} with the password {password}" for name, password, *_ in people.DEMO_PEOPLE),
        "",
        f"Conversations  {where}",
        *notes,
        responder.description(app.config),
        *_hint_about_key(app),
        "Ctrl-C stops it. The conversations are still there after a restart.",
        sep="\n",
        flush=True,
    )


def _hint_about_key(app: Flask) -> list[str]:
    if app.config["OPENAI_API_KEY"] and not responder.is_configured(app.config):
        return ["OPENAI_API_KEY is set but not used: name a model or an endpoint too (OPENAI_MODEL, OPENAI_BASE_URL)."]
    return []


if __name__ == "__main__":
    main()
