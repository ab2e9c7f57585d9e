"""The PostgreSQL, Redis, Chromium and Node.js of a test run: started once, shared by every worker, and named in its summary."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NoReturn

import pytest

from example_app.servers import Unavailable, postgresql, redis_server

SERVICES = ("postgresql", "redis", "chromium", "node")
LOCATIONS = {
    "postgresql": "TEST_POSTGRESQL_URL",
    "redis": "TEST_REDIS_URL",
    "chromium": "TEST_CHROMIUM",
    "node": "TEST_NODE",
}
"""Environment variables with the place of each service: given by hand, or set here for the workers."""

LEFT_OUT = "left out by --without"
MISSING = "TEST_MISSING_"
"""Prefix of the environment variables with the reason why a service is missing."""


@contextlib.contextmanager
def running(without: list[str]) -> Iterator[dict[str, str]]:
    """Start every service but *without*; what each turned out to be. In CI a missing one is an error."""
    before = dict(os.environ)
    with contextlib.ExitStack() as servers:
        said = {name: _start(name, servers) if name not in without else LEFT_OUT for name in SERVICES}
        for name in SERVICES:
            if name in without:
                os.environ[MISSING + name] = LEFT_OUT
        absent = [f"{name}: {said[name]}" for name in SERVICES if location(name) is None and name not in without]
        if absent and os.environ.get("CI"):
            raise pytest.UsageError("CI runs everything or says --without.\n" + "\n".join(absent))
        try:
            yield said
        finally:
            os.environ.clear()
            os.environ.update(before)


def location(name: str) -> str | None:
    """URL or path of the service, None if there is none."""
    return None if MISSING + name in os.environ else os.environ.get(LOCATIONS[name])


def need(name: str) -> str:
    """URL or path of the service; skips the test, with the reason, where there is none. CI does not start without."""
    found = location(name)
    if found is None:
        pytest.skip(f"NO {name.upper()}: {os.environ.get(MISSING + name, 'not started')}")
    return found


def need_program(name: str) -> str:
    """The path of a program; without it the test is skipped, in CI failed."""
    # /usr/sbin, which is not on every path, is where Debian has servers
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    return shutil.which(name, path=path) or missing(f"NO {name.upper()}: the program is not on the PATH.")


def need_module(name: str) -> ModuleType:
    """A package of the group `test`; without it the test is skipped, in CI failed."""
    try:
        return importlib.import_module(name)
    except ImportError as reason:
        return missing(f"NO {name.upper()}: {reason}.")


def missing(reason: str) -> NoReturn:
    """Skip the test; in CI, where nothing may be missing, fail it."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def versions() -> str:
    """Python and the libraries whose versions decide what a test run proves."""
    names = ["flask", "sqlalchemy", "flask-sqlalchemy", "flask-migrate", "alembic", "marshmallow", "redis", "pyjwt"]
    return ", ".join([f"python {platform.python_version()}", *(f"{name} {_version(name)}" for name in names)])


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _start(name: str, servers: contextlib.ExitStack) -> str:
    starters: dict[str, Callable[[contextlib.ExitStack], tuple[str, str]]] = {
        "postgresql": _start_postgresql,
        "redis": _start_redis,
        "chromium": _find_chromium,
        "node": _find_node,
    }
    try:
        found, version = starters[name](servers)
    except Unavailable as reason:
        os.environ[MISSING + name] = str(reason)
        return f"MISSING. {reason}"
    os.environ[LOCATIONS[name]] = found
    return version


def _start_postgresql(servers: contextlib.ExitStack) -> tuple[str, str]:
    import sqlalchemy as sa

    given = "TEST_POSTGRESQL_URL" in os.environ
    url = servers.enter_context(postgresql())
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    engine.dispose()
    return url, f"{version} ({'given' if given else 'started here'})"


def _start_redis(servers: contextlib.ExitStack) -> tuple[str, str]:
    import redis

    given = "TEST_REDIS_URL" in os.environ
    url = servers.enter_context(redis_server())
    with redis.Redis.from_url(url) as client:
        server = client.info("server")
    version = f"(Valkey {server['valkey_version']})" if "valkey_version" in server else server["redis_version"]
    return url, f"{version} ({'given' if given else 'started here'})"


def _find_chromium(servers: contextlib.ExitStack) -> tuple[str, str]:
    # the first has no windows, and so a third less to do
    names = [
        os.environ.get("TEST_CHROMIUM"),
        "chromium-headless-shell",
        "chromium",
        "chromium-browser",
        "google-chrome",
    ]
    for name in filter(None, names):
        if path := shutil.which(name):
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60).stdout
            return path, " ".join(said.split()[:2]) or path
    raise Unavailable("No Chromium here: the browser tests do not run. Debian: apt-get install chromium-headless-shell")


def _find_node(servers: contextlib.ExitStack) -> tuple[str, str]:
    node, npm = shutil.which(os.environ.get("TEST_NODE") or "node"), shutil.which("npm")
    if not node or not npm:
        raise Unavailable(
            "No Node.js with npm here: the tests with the AI SDK do not run. Debian: apt-get install nodejs npm"
        )
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60).stdout
    return node, said.strip() or node


def sqlite_version() -> str:
    return sqlite3.sqlite_version
