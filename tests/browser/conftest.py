"""The example app in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.infra.demo import Demo

from .person import Person


@pytest.fixture(scope="module")
def running_demo(
    chromium: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Demo]:
    """The example app, started once: that takes longer than most tests. A module says in `SETTINGS` what differs for it."""
    settings = {"FLASK_DEMO_PAUSE": "0.002", **getattr(request.module, "SETTINGS", {})}
    app = Demo(tmp_path_factory.mktemp("demo"), **settings)
    yield app
    app.stop()


@pytest.fixture
def demo(running_demo: Demo) -> Iterator[Demo]:
    """The running example app, without conversations yet."""
    yield running_demo
    running_demo.forget()


@pytest.fixture
def errors() -> list[str]:
    """What the browser complained about, but for a server that it could not reach."""
    return []


@pytest.fixture
def person(browser: Any, demo: Demo, errors: list[str]) -> Iterator[Callable[..., Person]]:
    """Logs a person in, in a browser of their own."""
    contexts: list[Any] = []

    def log_in(name: str, **options: Any) -> Person:
        contexts.append(browser.new_context(locale="en-GB", **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if _is_complaint(said) else None)
        return Person(page, demo, name)

    yield log_in
    for context in contexts:
        context.close()


def _is_complaint(said: Any) -> bool:
    return said.type == "error" and "net::ERR" not in said.text
