"""The databases of one test worker: empty between tests, without making the tables anew each time."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects.postgresql import dialect as postgresql_dialect


class Database(Protocol):
    """The database of one test."""

    name: str
    """`sqlite` or `postgresql`."""
    url: str
    """The address of the database that `make_app` uses."""

    def empty(self) -> str:
        """The address of one more database, without tables, gone after the test."""

    def prepare(self, app: Flask, db: SQLAlchemy) -> None:
        """Make the tables of *app* on this database, unless they are there."""


class Sqlite:
    """A file per test; the first of each layout of tables is kept as a template and copied."""

    name = "sqlite"

    def __init__(self, folder: Path, templates: dict[str, Path]) -> None:
        self.folder, self.templates = folder, templates
        self.file = folder / "test.db"
        self.url = f"sqlite:///{self.file}"
        self.layout: str | None = None

    def empty(self) -> str:
        return f"sqlite:///{self.folder / uuid.uuid4().hex}.db"

    def prepare(self, app: Flask, db: SQLAlchemy) -> None:
        layout = _layout(db)
        if layout == self.layout:
            return
        fresh = not self.file.exists()
        self.layout = layout if fresh else "several"
        if fresh and layout in self.templates:
            shutil.copy(self.templates[layout], self.file)
            return
        _create_all(app, db)
        if fresh and self.file.exists():
            template = self.file.parent.parent / f"template-{uuid.uuid4().hex}.db"
            shutil.copy(self.file, template)
            self.templates[layout] = template


class Postgresql:
    """One database per worker, emptied after each test; made anew when a test wants another layout of tables."""

    name = "postgresql"

    def __init__(self, server: str, name: str) -> None:
        self.server = sa.make_url(server)
        self.database = name
        self.url = self._url(name)
        self.layout: str | None = None
        self.used = False
        self.extra: list[str] = []
        self.initial: dict[str, int] = {}
        self.children_first: list[str] = []
        self.admin = sa.create_engine(self.server, isolation_level="AUTOCOMMIT", poolclass=sa.StaticPool)
        self._create(name)
        options = {"isolation_level": "AUTOCOMMIT", "poolclass": sa.StaticPool}
        self.engine = sa.create_engine(self.url, **options)

    def empty(self) -> str:
        name = f"{self.database}_{uuid.uuid4().hex[:8]}"
        self._create(name)
        self.extra.append(name)
        return self._url(name)

    def prepare(self, app: Flask, db: SQLAlchemy) -> None:
        layout = _layout(db)
        if layout != self.layout:
            if self.layout and not self.used:
                self._drop_everything()
            _create_all(app, db)
            self.layout = "several" if self.used else layout
            self.initial = self._rows()
            self.children_first = self._children_first(db)
        self.used = True

    def clean(self) -> None:
        """Empty the tables, but for those that had rows from the beginning; drop everything if the test changed the layout."""
        for name in self.extra:
            self._drop(name)
        self.extra.clear()
        if self.layout == "several" or set(self._tables()) != set(self.initial):
            self._drop_everything()
        else:  # DELETE and not TRUNCATE, which takes ten times as long on tables as small as these
            self._insist("; ".join(f"DELETE FROM {name}" for name in self.children_first if not self.initial[name]))
        self.used = False

    def close(self) -> None:
        self.engine.dispose()
        self._drop(self.database)
        self.admin.dispose()

    def _url(self, name: str) -> str:
        return self.server.set(database=name).render_as_string(hide_password=False)

    def _create(self, name: str) -> None:
        with self.admin.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE template0')

    def _drop(self, name: str) -> None:
        with self.admin.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _drop_everything(self) -> None:
        with self.engine.connect() as connection:
            found = connection.exec_driver_sql(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_)'"
            )
            for schema in found.scalars().all():
                self._insist(f'DROP SCHEMA "{schema}" CASCADE')
        self._insist("CREATE SCHEMA public")
        self.layout, self.initial = None, {}

    def _tables(self) -> list[str]:
        query = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information_)'"
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(query)).scalars())

    def _children_first(self, db: SQLAlchemy) -> list[str]:
        """The tables so that a row goes before the row it refers to."""
        quoted = postgresql_dialect().identifier_preparer.quote
        tables = [table for metadata in db.metadatas.values() for table in reversed(metadata.sorted_tables)]
        names = [f"{quoted(table.schema or 'public')}.{quoted(table.name)}" for table in tables]
        return [name for name in names if name in self.initial] + [name for name in self.initial if name not in names]

    def _rows(self) -> dict[str, int]:
        with self.engine.connect() as connection:
            count = {name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}") for name in self._tables()}
            return {name: rows.scalar_one() for name, rows in count.items()}

    def _insist(self, statement: str) -> None:
        """Run *statement*, and end the sessions in its way: a test may have left a transaction open."""
        sessions = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with self.engine.connect() as connection:
            try:
                connection.exec_driver_sql(f"SET lock_timeout = '2s'; {statement}")
            except sa.exc.OperationalError:
                connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM {sessions}")
                connection.exec_driver_sql(statement)


def _create_all(app: Flask, db: SQLAlchemy) -> None:
    with app.app_context():
        db.create_all()
        for engine in db.engines.values():
            engine.dispose()


def _layout(db: SQLAlchemy) -> str:
    """The tables and columns of *db*, as a text that is the same for the same layout."""
    tables = [table for metadata in db.metadatas.values() for table in metadata.sorted_tables]
    return "\n".join(f"{table.fullname}: {[(c.name, _type(c)) for c in table.columns]}" for table in tables)


def _type(column: sa.Column[Any]) -> str:
    return f"{type(column.type).__name__}{column.nullable}"


def postgresql_for(server: str, worker: str, run: str) -> Iterator[Postgresql]:
    """The database of one worker of one test run, for as long as the worker lives."""
    database = Postgresql(server, f"test_{run[:8]}_{worker}")
    try:
        yield database
    finally:
        database.close()
