"""Apps for tests: one call gives a Flask app with conversations, on the database of the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import sqlalchemy as sa
from flask import Flask, request
from flask.testing import FlaskClient
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from werkzeug.routing import Rule

from flask_conversations import Conversations
from flask_conversations.identity import Identity

from .databases import Database

SECRET = "a key of the tests, long enough for HS256"

_shared_db: SQLAlchemy | None = None
OWN_LAYOUT = {"CONVERSATIONS_TABLE_PREFIX", "CONVERSATIONS_SCHEMA", "CONVERSATIONS_BIND_KEY", "SQLALCHEMY_BINDS"}
"""Settings that change the tables: an app with one of these does not share its `db`."""


def identity_from_headers() -> Identity | None:
    """The user of `X-Test-User`, in the organisation of `X-Test-Org`. For tests only: every client can write a header."""
    user = request.headers.get("X-Test-User")
    return Identity(user, org_id=request.headers.get("X-Test-Org")) if user else None


class SharedRule(Rule):
    """A URL rule that generates the code of its URLs once per process: that is most of what `init_app` takes."""

    _generated: ClassVar[dict[Any, Callable[..., tuple[str, str]]]] = {}

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        if self.defaults:
            return super()._compile_builder(append_unknown)
        key = (self.rule, tuple(self._trace), append_unknown)
        if key not in self._generated:
            self._generated[key] = super()._compile_builder(append_unknown)
        return self._generated[key]


class Compiled:
    """What SQLAlchemy compiles for the default tables, kept from app to app: it keeps statements by dialect object.

    A listener for the events of a dialect (`do_connect`, `handle_error`) would reach every later app: listen to the pool instead.
    """

    def __init__(self) -> None:
        self.dialects: dict[str, sa.Dialect] = {}
        self.statements: dict[Any, Any] = {}

    def share_with(self, engine: sa.Engine) -> None:
        """Let *engine*, which has nothing but its address of its own, find what others compiled."""
        if engine.dialect.name not in self.dialects:
            with engine.connect():  # which tells its dialect what the server can do
                self.dialects[engine.dialect.name] = engine.dialect
        engine.dialect = self.dialects[engine.dialect.name]
        engine.update_execution_options(compiled_cache=self.statements)


class Apps:
    """Makes apps, and closes their connections after the test."""

    def __init__(self, database: Database, settings: dict[str, Any] | None = None) -> None:
        self.database = database
        self.settings = settings or {}
        self.made: list[tuple[Flask, SQLAlchemy]] = []

    def __call__(
        self,
        *,
        db: SQLAlchemy | None = None,
        conversations: Conversations | None = None,
        tables: bool = True,
        options: dict[str, Any] | None = None,
        **config: Any,
    ) -> Flask:
        """An app on the database of the test. *config* are keys of `app.config`, *options* those of `Conversations`.

        *db* and *conversations* are for tests with models of their own; *tables* False leaves the database as it is.
        """
        options = {"identity": identity_from_headers} | (options or {})
        if conversations is None:
            db = db or (SQLAlchemy() if OWN_LAYOUT & set(config) or _names_models(options) else shared_db())
            conversations = Conversations(db, **options)
        app = Flask("tests")
        app.url_rule_class = SharedRule
        app.config.update(TESTING=True, SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=self.database.url)
        if self.database.name == "postgresql":
            app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 10, "max_overflow": 60}
        app.config.update({**self.settings, **config})
        if db is not None:
            db.init_app(app)
            Migrate(app, db)
            if db is _shared_db and not any(name.startswith("SQLALCHEMY_") for name in config):
                with app.app_context():
                    _compiled.share_with(db.engine)
        conversations.init_app(app)
        db = db or app.extensions["sqlalchemy"]
        app.conversations, app.db = conversations, db  # type: ignore[attr-defined]
        self.made.append((app, db))
        if tables:
            self.database.prepare(app, db)
        return app

    def close(self) -> None:
        for app, db in self.made:
            with app.app_context():
                db.session.remove()
                for engine in db.engines.values():
                    engine.dispose()


_compiled = Compiled()


def shared_db() -> SQLAlchemy:
    """One `SQLAlchemy` for all apps with the default tables: to map the classes anew for each test takes too long."""
    global _shared_db
    _shared_db = _shared_db or SQLAlchemy()
    return _shared_db


def client_of(app: Flask, user: str | None, org: str | None = None) -> FlaskClient:
    """A test client that is *user*; a stranger without."""
    client = app.test_client()
    headers = {"HTTP_X_TEST_USER": user, "HTTP_X_TEST_ORG": org}
    client.environ_base.update({name: value for name, value in headers.items() if value is not None})
    return client


def _names_models(options: dict[str, Any]) -> bool:
    return any(name.endswith("_model") for name in options)
