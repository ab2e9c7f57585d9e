"""Apps that answer: one worker, or several on one database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from .tools import Led


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
