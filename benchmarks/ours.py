"""The package, called as a view of a host app calls it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import Conversations


def make_app(url: str, redis_url: str | None = None, **options: Any) -> tuple[Flask, Conversations]:
    """A host app with nothing but conversations on the database at *url*, without a cache unless *redis_url* names one.

    A request is of whom `X-User` names.
    """
    db = SQLAlchemy()
    cache = {"redis_url": redis_url} if redis_url else {"cache": False}
    conversations = Conversations(db, identity=lambda: request.headers.get("X-User"), **cache, **options)
    app = Flask("benchmarks")
    app.config.update(SQLALCHEMY_DATABASE_URI=url, SECRET_KEY="a key of the benchmarks, long enough")
    if url.startswith("postgresql"):
        # a connection for each of the writers
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 10}
    db.init_app(app)
    conversations.init_app(app)
    return app, conversations


class Ours:
    """The service inside an app context, as in a request."""

    name = "Flask-Conversations"

    def __init__(self, url: str, redis_url: str | None = None, **options: Any) -> None:
        self.app, self.extension = make_app(url, redis_url, **options)
        self._services: dict[str, Any] = {}
        self.context: Any = None
        """The app context of the thread that is measured, for programs with several apps."""

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Ours]:
        with self.app.app_context() as self.context:
            yield self

    def service(self, user: str) -> Any:
        if user not in self._services:
            self._services[user] = self.open(user)
        return self._services[user]

    def open(self, user: str) -> Any:
        return self.extension.as_user(user)

    def append(self, user: str, conversation_id: str, role: str, content: str) -> Any:
        return self.service(user).save_message(conversation_id, role, content)

    def newest(self, user: str, conversation_id: str, limit: int) -> Any:
        return self.service(user).get_conversation_history(conversation_id, limit)

    def page(self, user: str, conversation_id: str, limit: int, before: Any) -> Any:
        return self.service(user).get_messages(conversation_id, limit=limit, before=before)["messages"]

    def place(self, user: str, conversation_id: str, seq: int) -> Any:
        return self.service(user).get_messages(conversation_id, limit=1, before=seq + 1)["next_cursor"]

    def conversations(self, user: str, limit: int) -> Any:
        return self.service(user).list_conversations(limit=limit)["conversations"]

    def close(self) -> None:
        with self.app.app_context():
            for engine in self.app.extensions["sqlalchemy"].engines.values():
                engine.dispose()


class OursAnywhere(Ours):
    """The service made with `app=`, which opens a context for each call."""

    name = "Flask-Conversations, as_user(app=app)"

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[OursAnywhere]:
        yield self

    def open(self, user: str) -> Any:
        return self.extension.as_user(user, app=self.app)
