"""Hosts to migrate: real apps with Flask-Migrate in a folder of their own, driven through the `flask` commands."""

from __future__ import annotations

import contextlib
import io
import logging.config
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import Conversations


def no_identity() -> None:
    """The identity of hosts that are only migrated."""


class Host:
    """A host app in its folder, at one moment of its life. `evolve` makes the next one, on the same folder and database."""

    def __init__(
        self,
        folder: Path,
        url: str,
        declare: Callable[[SQLAlchemy], None] = lambda db: None,
        *,
        db: SQLAlchemy | None = None,
        installed: bool = True,
        migrate_first: bool = True,
        options: dict[str, Any] | None = None,
        migrate_options: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        self.folder, self.url, self.db = folder, url, db or SQLAlchemy()
        self.app = Flask("host", root_path=str(folder), instance_path=str(folder / "instance"))
        self.app.config.update(SQLALCHEMY_DATABASE_URI=url, SECRET_KEY="of the host", **config)
        self.db.init_app(self.app)
        given = declare(self.db) or {}
        migrate = Migrate(directory=str(folder / "migrations"), **(migrate_options or {}))
        if migrate_first:
            migrate.init_app(self.app, self.db)
        if installed:
            Conversations(self.db, identity=no_identity, **(options or {}), **given).init_app(self.app)
        if not migrate_first:
            migrate.init_app(self.app, self.db)

    def evolve(self, declare: Callable[[SQLAlchemy], Any] = lambda db: None, **options: Any) -> Host:
        self.close()
        return Host(self.folder, self.url, declare, **options)

    def run(self, *arguments: str, fails: bool = False, **options: Any) -> str:
        """The output of `flask <arguments>`; with the log, unless the output is SQL."""
        # env.py leaves a hook of this one command there, as if there were a process for each
        self.app.extensions["migrate"].configure_args.pop("process_revision_directives", None)
        with _logged() as log:
            result: Result = self.app.test_cli_runner().invoke(args=list(arguments), **options)
        assert (result.exit_code != 0) is fails, (result.output, log.getvalue(), result.exception)
        return result.output if "--sql" in arguments else result.output + log.getvalue()

    def migrate(self) -> str:
        """`flask db migrate`: what it wrote, or nothing."""
        before = set(self.revisions())
        self.run("db", "migrate")
        written = set(self.revisions()) - before
        return written.pop().read_text() if written else ""

    def revisions(self) -> list[Path]:
        return sorted((self.folder / "migrations" / "versions").glob("*.py"))

    def tables(self, bind_key: str | None = None) -> set[str]:
        """What the database has, without Alembic's own table."""
        return set(self.described(bind_key)) - {"alembic_version"}

    def described(self, bind_key: str | None = None, schema: str | None = None) -> dict[str, Any]:
        with self.app.app_context(), self.db.engines[bind_key].connect() as connection:
            return described(connection, schema)

    def execute(self, statement: str) -> Any:
        with self.app.app_context(), self.db.engine.begin() as connection:
            result = connection.exec_driver_sql(statement)
            return result.scalars().all() if result.returns_rows else None

    def close(self) -> None:
        with self.app.app_context():
            for engine in self.db.engines.values():
                engine.dispose()


@contextlib.contextmanager
def _logged() -> Iterator[io.StringIO]:
    """What env.py would show of the log."""
    log = io.StringIO()
    handler, root, level = logging.StreamHandler(log), logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield log
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def described(connection: sa.Connection, schema: str | None = None) -> dict[str, Any]:
    """Everything about the tables that a database tells, in an order of its own."""
    inspector = sa.inspect(connection)
    return {table: _table(inspector, table, schema) for table in inspector.get_table_names(schema)}


def _table(inspector: sa.Inspector, table: str, schema: str | None) -> dict[str, Any]:
    def by_name(found: Any) -> list[Any]:
        return sorted(found, key=lambda one: str(one["name"]))

    columns = [{**column, "type": repr(column["type"])} for column in inspector.get_columns(table, schema)]
    indexes = [
        {**index, "dialect_options": {key: str(value) for key, value in index.get("dialect_options", {}).items()}}
        for index in inspector.get_indexes(table, schema)
    ]
    return {
        "columns": by_name(columns),
        "key": inspector.get_pk_constraint(table, schema),
        "indexes": by_name(indexes),
        "uniques": by_name(inspector.get_unique_constraints(table, schema)),
        "foreign keys": by_name(inspector.get_foreign_keys(table, schema)),
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Flask-Migrate's own env.py calls what Flask-SQLAlchemy has deprecated."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:'get_engine' is deprecated"))


@pytest.fixture
def host(tmp_path: Path, database: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Host]]:
    """`host(declare, **options)`: a host in a folder with migrations, on an empty database. *declare(db)* makes its models."""
    # env.py would configure logging for the whole process, and silence the loggers of other tests
    monkeypatch.setattr(logging.config, "fileConfig", lambda *args, **kwargs: None)
    hosts: list[Host] = []

    def make(declare: Any = lambda db: None, *, multidb: bool = False, url: str | None = None, **options: Any) -> Host:
        made = Host(tmp_path, url or database.empty(), declare, **options)
        hosts.append(made)
        made.run("db", "init", *(["--multidb"] if multidb else []))
        return made

    yield make
    for made in hosts:
        made.close()
