"""Apps that answer: one worker, or several on one database. Their turns look about more often than those of a host's app."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_conversations.service.turns.timing import Timing

from .tools import Led

QUICK = dataclasses.replace(
    Timing(),
    poll_interval=0.02,
    stop_poll_interval=0.05,
    checkpoint_interval=0.05,
    max_retry_delay=0.1,
    max_queue_poll_interval=0.05,
    max_end_poll_interval=0.05,
    cancel_poll_interval=0.02,
    relay_poll_interval=0.02,
    database_poll_interval=0.05,
)
"""For tests of what happens, whenever it does. What is left as it is, no test waits for."""


@pytest.fixture
def make_app(make_app: Callable[..., Flask]) -> Callable[..., Flask]:
    """Makes an app whose turns are `QUICK`; with `timing=Timing()` it takes the time of a host's app."""

    def make(*, timing: Timing = QUICK, **config: Any) -> Flask:
        app = make_app(**config)
        app.extensions["flask_conversations"].turns.timing = timing
        return app

    return make


@pytest.fixture
def led() -> Led:
    return Led()


@pytest.fixture
def chat(ada: Any, bob: Any) -> str:
    """An empty conversation of Ada's."""
    bob.create_conversation("Bob's")
    return str(ada.create_conversation("Chat")["id"])


@pytest.fixture
def answered(conversations: Any) -> Callable[[Any], Any]:
    """Makes a function the responder of `app`."""
    return lambda responder: conversations.responder(responder)


@pytest.fixture
def worker(make_app: Callable[..., Flask]) -> Callable[..., Flask]:
    """Makes one more app with a responder on the same database: to the first one it is another worker."""

    def make(responder: Any = None, **config: Any) -> Flask:
        app = make_app(**{"CONVERSATIONS_LOCK_TIMEOUT": 30, **config})
        if responder is not None:
            app.conversations.responder(responder)  # type: ignore[attr-defined]
        return app

    return make


@pytest.fixture
def memory(make_app: Callable[..., Flask]) -> Callable[..., Flask]:
    """Makes an app on a SQLite database in memory, which all threads share one connection to."""

    def make(responder: Any = None, **config: Any) -> Flask:
        settings = {"SQLALCHEMY_DATABASE_URI": "sqlite://", "SQLALCHEMY_ENGINE_OPTIONS": {}}
        app = make_app(tables=False, **settings, **config)
        with app.app_context():
            app.db.create_all()  # type: ignore[attr-defined]
        if responder is not None:
            app.conversations.responder(responder)  # type: ignore[attr-defined]
        return app

    return make
