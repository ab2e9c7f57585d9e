"""Values that a driver refuses to read: text that is no UTF-8 on SQLite; JSON too deep, or times out of range, on PostgreSQL.

One such value would make every row around it unreadable. A call without such a value costs nothing more: only after a failure is
it run again, with a driver that reads as much as it can.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

logger = logging.getLogger("flask_conversations.storage")


def is_unreadable(error: BaseException) -> bool:
    """The database has answered, and the driver could not make Python of it."""
    if isinstance(error, sa.exc.OperationalError):
        return "Could not decode to UTF-8" in str(error.orig)
    if isinstance(error, sa.exc.DataError):
        # an error of the server has a state
        return getattr(error.orig, "sqlstate", None) is None
    return isinstance(error, RecursionError) or type(error) is ValueError


@contextmanager
def readable(connection: sa.Connection) -> Iterator[None]:
    """Let *connection* read corrupt text with replacement characters, and corrupt JSON and times as absent."""
    logger.warning("A row holds an unreadable value; as much of it is read as possible.")
    driver: Any = connection.connection.driver_connection
    with (_any_text if connection.dialect.name == "sqlite" else _any_value)(driver):
        yield


@contextmanager
def _any_text(driver: Any) -> Iterator[None]:
    before = driver.text_factory
    driver.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        yield
    finally:
        driver.text_factory = before


@contextmanager
def _any_value(driver: Any) -> Iterator[None]:
    from psycopg.adapt import Loader
    from psycopg.errors import DataError
    from psycopg.types.datetime import TimestamptzLoader

    class Json(Loader):
        def load(self, data: Any) -> Any:
            try:
                return json.loads(bytes(data))
            except (ValueError, RecursionError):
                return None

    class Moment(Loader):
        def load(self, data: Any) -> Any:
            try:
                return TimestamptzLoader(self.oid, driver).load(data)
            except DataError:
                return None

    adapters = driver.adapters
    oids = {adapters.types["json"].oid: Json, adapters.types["timestamptz"].oid: Moment}
    before = {oid: adapters.get_loader(oid, Loader.format) for oid in oids}
    for oid, loader in oids.items():
        adapters.register_loader(oid, loader)
    try:
        yield
    finally:
        for oid, loader in before.items():
            adapters.register_loader(oid, loader)
