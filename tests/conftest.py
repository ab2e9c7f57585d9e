"""The fixtures of every test: a database, an app on it, Ada and Bob. See infra/ for how they are made."""

from __future__ import annotations

import contextlib
import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from flask import Flask
from flask.testing import FlaskClient

from .infra import databases, services, tools

# how long an example takes says more about the machine than about us
hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("suite"), max_examples=20)
hypothesis.settings.load_profile("suite")

SERVICES = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without", action="append", default=[], choices=services.SERVICES, help="run nothing that needs this service"
    )
    parser.addoption(
        "--cache",
        default="off",
        choices=("off", "on", "strict"),
        help="give every app a Redis cache, unless its test sets one",
    )
    parser.addoption(
        "--form",
        default="short",
        choices=("short", "long", "all"),
        help="long: only the tests that have a long form, with every seed, place and repetition; all: the others too",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start the services once, before xdist starts the workers, which find them in their environment."""
    config.addinivalue_line("markers", "slow: takes more than a few seconds; left out of the quick legs of CI")
    config.addinivalue_line("markers", "long: a seed, place or repetition of the long form, which --form=long runs")
    # what a test leaves behind is little: looking for it as often as Python does by default takes a fifth of the time
    gc.set_threshold(50_000, 10, 10)
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    stack = contextlib.ExitStack()
    config.add_cleanup(stack.close)
    config.stash[SERVICES] = stack.enter_context(services.running(config.getoption("--without")))


def pytest_report_header(config: pytest.Config) -> list[str]:
    running = config.stash.get(SERVICES, {})
    lines = [services.versions(), f"sqlite {services.sqlite_version()}"]
    return [*lines, *(f"{name} {what}" for name, what in running.items())]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say at the end what ran, where the last lines of a log show it."""
    ran: Counter[str] = Counter()
    sent = 0
    for report in [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]:
        properties = dict(getattr(report, "user_properties", ()))
        ran[properties.get("database", "no database")] += report.when == "call"
        sent += properties.get("requests", 0) if report.when == "call" else 0
    terminalreporter.section("what ran")
    terminalreporter.write_line(services.versions())
    for name, version in {"sqlite": services.sqlite_version(), **config.stash.get(SERVICES, {})}.items():
        count = f"{ran[name]} tests on " if name in ("sqlite", "postgresql") else ""
        terminalreporter.write_line(f"{count}{name} {version}")
    terminalreporter.write_line(f"{ran['no database']} tests without a database of their own")
    cells = sum(dict(getattr(one, "user_properties", ())).get("cells", 0) for one in _passed(terminalreporter))
    for line in _sums(terminalreporter, FIGURES):
        terminalreporter.write_line(line)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", ()) if report.when == "call" else ():
                if name == "figure":
                    terminalreporter.write_line(f"{report.location[2].partition('[')[0]}: {value}")
    if cells:
        terminalreporter.write_line(f"{cells} cells of the isolation matrix were as declared")
    if sent:
        terminalreporter.write_line(f"{sent} random requests to the API")


FIGURES = {
    "states": "states of the cache protocol's model",
    "interleavings": "interleavings of them",
    "conformance_steps": "calls of the real scripts that did as the model",
}
"""Properties that tests record, and what their sum is a number of."""


def _sums(terminalreporter: Any, figures: dict[str, str]) -> Iterator[str]:
    sums: Counter[str] = Counter()
    for report in _passed(terminalreporter):
        for name, value in getattr(report, "user_properties", ()):
            if name in figures:
                sums[name] += value
    return (f"{sums[name]:,} {what}" for name, what in figures.items() if sums[name])


def _passed(terminalreporter: Any) -> list[pytest.TestReport]:
    return [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What this run leaves out is not there, instead of skipped a thousand times."""
    without_postgresql, form = "postgresql" in config.getoption("--without"), config.getoption("--form")

    def is_left_out(item: pytest.Item) -> bool:
        if without_postgresql and _database_of(item) == "postgresql":
            return True
        only_long = item.get_closest_marker("long") is not None
        has_long_form = only_long or "long" in getattr(item, "fixturenames", ())
        return {"short": only_long, "long": not has_long_form, "all": False}[form]

    config.hook.pytest_deselected(items=[item for item in items if is_left_out(item)])
    items[:] = [item for item in items if not is_left_out(item)]


def _database_of(item: pytest.Item) -> str | None:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return parameters.get("database")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether this is the long run, with time for every seed, place and repetition. A test that asks for it takes part there."""
    return str(request.config.getoption("--form")) != "short"


@pytest.fixture(scope="session")
def sqlite_templates() -> dict[str, Path]:
    """SQLite files with tables and no rows, by layout."""
    return {}


@pytest.fixture(scope="session")
def postgresql_database(request: pytest.FixtureRequest) -> Iterator[databases.Postgresql]:
    """The PostgreSQL database of this worker."""
    worker: dict[str, str] = getattr(
        request.config, "workerinput", {"workerid": "main", "testrunuid": os.urandom(4).hex()}
    )
    yield from databases.postgresql_for(services.need("postgresql"), worker["workerid"], worker["testrunuid"])


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sqlite_templates: dict[str, Path],
    record_property: Callable[[str, object], None],
) -> Iterator[databases.Database]:
    """The database of this test, once SQLite and once PostgreSQL: `.name`, `.url`, and `.empty()` for further ones."""
    record_property("database", request.param)
    if request.param == "sqlite":
        yield databases.Sqlite(tmp_path, sqlite_templates)
    else:
        postgresql: databases.Postgresql = request.getfixturevalue("postgresql_database")
        yield postgresql
        postgresql.clean()


@pytest.fixture
def make_app(database: databases.Database, request: pytest.FixtureRequest) -> Iterator[Callable[..., Flask]]:
    """Makes an app on `database`: see `Apps.__call__`. With `--cache` it has a cache unless the test says otherwise."""
    from .infra.apps import Apps

    mode = request.config.getoption("--cache")
    cache = {} if mode == "off" else {"CONVERSATIONS_REDIS_URL": request.getfixturevalue("redis_url")}
    apps = Apps(database, {**cache, "CONVERSATIONS_CACHE_STRICT": mode == "strict"})
    yield apps
    apps.close()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """An app with the default settings."""
    return make_app()


@pytest.fixture
def conversations(app: Flask) -> Any:
    """The extension object of `app`."""
    return app.conversations  # type: ignore[attr-defined]


@pytest.fixture
def ada(app: Flask, conversations: Any) -> Any:
    """The service of user Ada, usable without a context."""
    return conversations.as_user("ada", app=app)


@pytest.fixture
def bob(app: Flask, conversations: Any) -> Any:
    """The service of user Bob, usable without a context."""
    return conversations.as_user("bob", app=app)


@pytest.fixture
def http(app: Flask) -> Callable[..., FlaskClient]:
    """Makes test clients: `http("ada")`, `http("ada", org="acme")`, `http(None)` for a stranger."""
    from .infra.apps import client_of

    def client(user: str | None, org: str | None = None) -> FlaskClient:
        return client_of(app, user, org)

    return client


@pytest.fixture
def statements() -> Callable[[Flask], contextlib.AbstractContextManager[list[str]]]:
    """The SQL that ran: `with statements(app) as seen: ...`."""
    return tools.statements


@pytest.fixture
def threads() -> Callable[..., list[Any]]:
    """Runs a function in n threads at once: `threads(8, lambda i: ...)`."""
    return tools.threads


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty Redis database of this worker's own."""
    import redis

    worker = getattr(request.config, "workerinput", {"workerid": "gw0"})["workerid"].removeprefix("gw")
    url = services.need("redis")
    url = f"{url}{'&' if '?' in url else '?'}db={int(worker) + 1}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium; skips where there is none, which CI does not allow."""
    return services.need("chromium")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium, driven by Playwright, whose loop seems to run in this thread: not beyond the module."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page in a browser context of its own: no cookies, no storage from another test."""
    context = browser.new_context()
    yield context.new_page()
    context.close()
