"""The host's database: found or made, and prepared so that a wait for a lock is a short wait."""

from __future__ import annotations

import logging
import os
import sqlite3
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from .config import Config
from .errors import ConfigurationError

logger = logging.getLogger("flask_conversations.storage")


def attach(app: Flask, db: SQLAlchemy, config: Config) -> None:
    """Make *db* known to an app that has no Flask-SQLAlchemy of its own, on the database that its settings name."""
    if "sqlalchemy" in app.extensions or not _is_our_own(db):
        return
    app.config["SQLALCHEMY_DATABASE_URI"] = _url(app, config)
    db.init_app(app)


def own_database(session_options: dict[str, Any] | None = None) -> SQLAlchemy:
    """A `SQLAlchemy()` for a host that has none."""
    db = SQLAlchemy(session_options=session_options)
    db.metadata.info[_OWN] = True
    return db


_OWN = "flask_conversations.own_database"


def _is_our_own(db: SQLAlchemy) -> bool:
    return bool(db.metadata.info.get(_OWN))


def _url(app: Flask, config: Config) -> Any:
    hosts = (
        app.config.get("SQLALCHEMY_DATABASE_URI") or app.config.get("DATABASE_URL") or os.environ.get("DATABASE_URL")
    )
    url = config.database_url or hosts or "sqlite:///conversations.sqlite3"
    # SQLAlchemy 2.0 takes "postgresql" for psycopg2, and nobody takes "postgres"
    for scheme in ("postgres://", "postgresql://"):
        if isinstance(url, str) and url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url


def metadata_for(db: SQLAlchemy, bind_key: str | None) -> sa.MetaData:
    """The host's metadata of that bind, made the way Flask-SQLAlchemy makes it."""
    if bind_key is None:
        return db.metadata
    if bind_key not in db.metadatas:
        db.metadatas[bind_key] = sa.MetaData(
            naming_convention=db.metadata.naming_convention, info={"bind_key": bind_key}
        )
    return db.metadatas[bind_key]


def prepare(db: SQLAlchemy, config: Config) -> None:
    """Let SQLite connections wait for a lock and read while somebody writes. Needs an app context.

    Raises `ConfigurationError` if the app does not know *db*.
    """
    engine = engine_of(db, config)
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise ConfigurationError(f"{engine.dialect.name} is not supported: use PostgreSQL or SQLite.")
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine, config)


def engine_of(db: SQLAlchemy, config: Config) -> sa.Engine:
    """The engine of our tables on the current app."""
    try:
        return db.engines[config.bind_key]
    except RuntimeError as error:
        raise ConfigurationError(
            "This app does not know the SQLAlchemy() that Conversations was given: call db.init_app(app)."
        ) from error
    except KeyError:
        raise ConfigurationError(
            f"CONVERSATIONS_BIND_KEY is {config.bind_key!r}, but SQLALCHEMY_BINDS has no such bind."
        ) from None


def _prepare_sqlite(engine: sa.Engine, config: Config) -> None:
    wait = f"PRAGMA busy_timeout = {round(config.lock_timeout * 1000)}"
    on_disk = engine.url.database not in (None, "", ":memory:") and "mode=memory" not in str(engine.url)

    def set_up(connection: Any, _: Any = None) -> None:
        connection.execute(wait)
        if on_disk and config.sqlite_wal:
            _switch_to_wal(connection)

    if not sa.event.contains(engine, "connect", set_up):
        sa.event.listen(engine, "connect", set_up)
    if on_disk and _has_idle_connections(engine):
        pooled = engine.raw_connection()
        try:
            set_up(pooled.driver_connection)
        finally:
            pooled.close()


def _switch_to_wal(connection: Any) -> None:
    """Let readers not wait for a writer. The file is switched once, which needs a moment when nobody else uses it."""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        logger.debug("The database file stays without WAL until the next connection: %s", error)


def _has_idle_connections(engine: sa.Engine) -> bool:
    """Whether the host has connected already: the journal mode is the file's, so telling one connection is enough."""
    count = getattr(engine.pool, "checkedin", None)
    return bool(count and count())
