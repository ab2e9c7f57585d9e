"""Bring the tables from one step to another, and keep the row with their step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from flask import current_app, has_app_context

from ..errors import ConfigurationError
from ..models import Models
from ..tables import TABLES, VERSION, Names
from . import steps

_KEY = "flask_conversations"
_LOCK = int.from_bytes(b"flaskcon", "big")


def upgrade(since: str | None, to: str) -> None:
    """Bring the conversation tables from step *since* to step *to*, inside a revision of the host.

    The row in the database counts more than *since*: steps it already has are not run again.
    """
    context = op.get_context()
    run, names = Operations(context), _names(context)
    for step in steps.up(_current_step(context, names, since), to):
        # The row comes first, since only a write makes SQLite open the transaction that a failure below rolls back.
        record(run, names, step.revision)
        step.upgrade(names)


def downgrade(since: str | None, to: str | None) -> None:
    """Bring the conversation tables from step *since* back to step *to*; to `None` removes them with all they hold."""
    context = op.get_context()
    run, names = Operations(context), _names(context)
    for step in steps.down(_current_step(context, names, since), to):
        record(run, names, step.down_revision)
        step.downgrade(names)
    if to is None:
        run.drop_table(names.table(VERSION), schema=names.schema, if_exists=True)


def current(connection: sa.Connection, names: Names) -> str | None:
    """The step the tables stand at, or `None` if none is recorded."""
    if not sa.inspect(connection).has_table(names.table(VERSION), schema=names.schema):
        return None
    found: str | None = connection.scalar(sa.select(sa.func.max(_version_table(names).c.version)))
    return found


def record(run: Operations, names: Names, revision: str | None) -> None:
    """Write the one row with the step of the tables; its table is made if it is missing."""
    create_schema(run, names)
    column = sa.Column("version", sa.String(32), primary_key=True)
    run.create_table(names.table(VERSION), column, schema=names.schema, if_not_exists=True)
    row = _version_table(names)
    run.execute(row.delete())
    if revision is not None:
        run.execute(row.insert().values(version=run.inline_literal(revision)))


def refuse_unversioned(connection: sa.Connection, names: Names) -> None:
    """Raise if there are tables of our names without a recorded step: a wrong guess could damage them."""
    found = existing(connection, names)
    if found:
        raise ConfigurationError(
            f"The database has {', '.join(found)}, but no row in {names.table(VERSION)} that says which step of "
            f"Flask-Conversations they stand at. If they are ours, write it with 'flask conversations db stamp "
            f"{steps.HEAD}' (or the step they really have). If another program owns them, set "
            f"CONVERSATIONS_TABLE_PREFIX to give ours other names."
        )


def existing(connection: sa.Connection, names: Names) -> list[str]:
    """The tables of our names in the database, except the one with the version."""
    inspector = sa.inspect(connection)
    ours = (names.table(table.name) for table in TABLES if table.name != VERSION)
    return [name for name in ours if inspector.has_table(name, schema=names.schema)]


def migrate(connection: sa.Connection, models: Models, to: str | None, *, up: bool) -> tuple[str | None, str | None]:
    """Bring the tables up or down to step *to*, outside any revision of the host; the steps before and after."""
    wait_for_others(connection)
    names = names_of(models)
    before = current(connection, names)
    with Operations.context(operations(connection, models).get_context()):
        if not up:
            downgrade(before, to)
        elif to is not None:
            upgrade(before, to)
    return before, current(connection, names)


def wait_for_others(connection: sa.Connection) -> None:
    """Let processes that start together work on the tables one after the other, until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    elif connection.dialect.name == "sqlite" and not getattr(connection.connection, "in_transaction", True):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def operations(connection: sa.Connection, models: Models) -> Operations:
    """Alembic's operations on *connection*, outside any revision of the host."""
    opts = {"target_metadata": models.SchemaVersion.metadata}
    return Operations(MigrationContext.configure(connection, opts=opts))


def stamp(connection: sa.Connection, models: Models, revision: str | None) -> None:
    """Record that the tables stand at step *revision*, without checking them."""
    record(operations(connection, models), names_of(models), revision)


def models_on(metadata: sa.MetaData | Sequence[sa.MetaData] | None) -> Models | None:
    """The models whose tables a migration of *metadata* has to upgrade, or `None` if they are elsewhere.

    Apps that share one `db` may have named their tables differently: then those of the current app count.
    """
    places = _listed(metadata)
    of_app = getattr(current_app.extensions.get(_KEY), "models", None) if has_app_context() else None
    if of_app is not None:
        return of_app if any(_key(of_app) in place.tables for place in places) else None
    found = {names_of(models): models for models in all_models(places)}
    if len(found) > 1:
        prefixes = ", ".join(sorted(repr(names.prefix) for names in found))
        raise ConfigurationError(
            f"There are several sets of conversation tables here, with the prefixes {prefixes}. "
            f"Run the migration within the context of the app that it is for."
        )
    return next(iter(found.values()), None)


def all_models(metadata: sa.MetaData | Sequence[sa.MetaData] | None) -> list[Models]:
    """Every set of models that was built on *metadata*."""
    return [models for place in _listed(metadata) for models in place.info.get(_KEY, {}).values()]


def names_of(models: Models) -> Names:
    """The names as the database knows them: a `MetaData` with a schema of its own has put our tables there too."""
    table: sa.Table = models.SchemaVersion.__table__

    def qualified(target: str | None) -> str | None:
        bare = target is not None and target.count(".") == 1 and table.metadata.schema
        return f"{table.metadata.schema}.{target}" if bare else target

    return dataclasses.replace(
        models.names,
        schema=table.schema,
        user_foreign_key=qualified(models.names.user_foreign_key),
        org_foreign_key=qualified(models.names.org_foreign_key),
    )


def _names(context: MigrationContext) -> Names:
    models = models_on(context.opts.get("target_metadata"))
    if models is None:
        raise ConfigurationError(
            "This migration has conversation tables to care for, but its metadata has no conversation models. Create "
            "Conversations(db) before the migration runs, and pass the metadata of that db (or of the bind named by "
            "CONVERSATIONS_BIND_KEY) as target_metadata in env.py."
        )
    return names_of(models)


def _current_step(context: MigrationContext, names: Names, since: str | None) -> str | None:
    if context.connection is None or context.as_sql:
        return since
    have = current(context.connection, names)
    if have is None:
        refuse_unversioned(context.connection, names)
    return have


def create_schema(run: Operations, names: Names) -> None:
    context = run.get_context()
    if names.schema is None or context.dialect.name != "postgresql":
        return
    # Checked first, since CREATE SCHEMA IF NOT EXISTS needs the right to create one even if it exists.
    if context.as_sql or not sa.inspect(run.get_bind()).has_schema(names.schema):
        run.execute(sa.schema.CreateSchema(names.schema, if_not_exists=True))


def _version_table(names: Names) -> sa.TableClause:
    return sa.table(names.table(VERSION), sa.column("version", sa.String), schema=names.schema)


def _key(models: Models) -> str:
    table: sa.Table = models.SchemaVersion.__table__
    return table.key


def _listed(metadata: Any) -> list[sa.MetaData]:
    if metadata is None:
        return []
    return [metadata] if isinstance(metadata, sa.MetaData) else list(metadata)
