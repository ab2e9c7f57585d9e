"""The host's database: found or made, and set up so that waits for locks are short."""

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
    # SQLAlchemy 2.0 takes "postgresql" for psycopg2, and no version takes "postgres"
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


def engine_of(db: SQLAlchemy, config: Config) -> sa.Engine:
    """The engine of our tables on the current app. Raises `ConfigurationError` if there is none, or an unsupported one."""
    try:
        engine = db.engines[config.bind_key]
    except RuntimeError as error:
        raise ConfigurationError(
            "This app does not know the SQLAlchemy() that Conversations was given: call db.init_app(app)."
        ) from error
    except KeyError:
        raise ConfigurationError(
            f"CONVERSATIONS_BIND_KEY is {config.bind_key!r}, but SQLALCHEMY_BINDS has no such bind."
        ) from None
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise ConfigurationError(f"{engine.dialect.name} is not supported: use PostgreSQL or SQLite.")
    return engine


def set_up(connection: sa.Connection, config: Config) -> None:
    """Let a connection to SQLite wait for a lock, and read during a write; once in its life, on our first use of it.

    Not by a listener of the engine: the host's threads may be connecting by then, and SQLAlchemy's list of listeners must not grow
    while one of them goes through it.
    """
    if connection.dialect.name != "sqlite" or _READY in connection.info:
        return
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA busy_timeout = {round(config.lock_timeout * 1000)}")
    url = connection.engine.url
    on_disk = url.database not in (None, "", ":memory:") and "mode=memory" not in str(url)
    if on_disk and config.sqlite_wal:
        if driver.in_transaction:
            return  # of the host: the journal can be switched between transactions only
        _switch_to_wal(driver)
    connection.info[_READY] = True


_READY = "flask_conversations.ready"


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Let readers not wait for a writer. The file is switched once, which needs a moment without other connections."""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        logger.debug("The database file stays without WAL until the next connection: %s", error)
