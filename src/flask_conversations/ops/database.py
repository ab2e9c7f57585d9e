"""The checks of `doctor` on the database and its tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from flask import current_app

from .. import migrations
from ..database import engine_of
from ..errors import ConversationsError
from .finding import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from ..state import State

OLDEST_POSTGRESQL = 14
OLDEST_SQLITE = (3, 35)


def examine(state: State) -> Iterator[Finding]:
    """Everything about the database, as far as it can be reached."""
    try:
        engine = engine_of(state.db, state.config)
        backend = state.backend
    except ConversationsError as error:
        yield Finding("database", FAIL, str(error))
        return
    except ImportError as error:
        yield Finding(
            "database",
            FAIL,
            f"The driver is missing: {error}. For PostgreSQL: pip install 'flask-conversations[postgres]'",
        )
        return
    try:
        with engine.connect() as connection:
            backend.set_up(connection)
        # again from the pool, as a call gets it: the app's own set-up of a connection then comes after ours
        with engine.connect() as connection:
            backend.set_up(connection)
            yield Finding("database", OK, f"{_place(engine.url)} answers.")
            yield from _examined(connection, state)
    except sa.exc.DBAPIError as error:
        lines = str(error.orig).strip().splitlines()
        yield Finding(
            "database",
            FAIL,
            f"{_place(engine.url)} does not answer: {lines[0] if lines else type(error.orig).__name__} "
            f"Check SQLALCHEMY_DATABASE_URI, the network, and the server.",
        )


def _place(url: sa.URL) -> str:
    """Where the database is, without user and password."""
    if url.get_backend_name() == "sqlite":
        return f"SQLite {url.database or ':memory:'}"
    host = url.host or url.query.get("host") or "the local socket"
    return (
        f"{url.get_backend_name()} {url.database or '(default database)'} on {host}{f':{url.port}' if url.port else ''}"
    )


def _examined(connection: sa.Connection, state: State) -> Iterator[Finding]:
    if connection.dialect.name == "sqlite":
        yield from _sqlite(connection, state)
    else:
        yield from _postgresql(connection, state)
    yield from _tables(connection, state)


# -- the tables ---------------------------------------------------------------------------------------------------------


def _tables(connection: sa.Connection, state: State) -> Iterator[Finding]:
    """Migration step, tables, columns, keys and indexes, compared with what this release needs."""
    step = migrations.current(connection, migrations.names_of(state.models))
    yield _step(step)
    inspector = sa.inspect(connection)
    missing = [table for table in state.models.tables.values() if not inspector.has_table(table.name, table.schema)]
    if missing:
        names = ", ".join(table.name for table in missing)
        yield Finding("tables", FAIL, f"Missing: {names}. {_upgrade()}")
        return
    yield Finding("tables", OK, f"All {len(state.models.tables)} are there.")
    yield _compared("columns", FAIL, inspector, state, _missing_columns)
    yield _compared("keys", FAIL, inspector, state, _missing_keys)
    yield _compared("indexes", WARN, inspector, state, _missing_indexes)


def _step(step: str | None) -> Finding:
    if step == migrations.HEAD:
        return Finding("migrations", OK, f"The tables stand at {step}, as this release needs.")
    if step is None:
        return Finding("migrations", FAIL, f"The tables do not say where they stand. {_upgrade()}")
    if step > migrations.HEAD:
        return Finding(
            "migrations",
            FAIL,
            f"The tables stand at {step}, beyond {migrations.HEAD}, which is all this release knows. Install the newer release.",
        )
    return Finding(
        "migrations", FAIL, f"The tables stand at {step}, and this release needs {migrations.HEAD}. {_upgrade()}"
    )


def _upgrade() -> str:
    if "migrate" in current_app.extensions:
        return "Run 'flask db migrate' and 'flask db upgrade'."
    return "Run 'flask conversations db upgrade'."


def _compared(
    name: str,
    otherwise: str,
    inspector: sa.Inspector,
    state: State,
    missing_of: Callable[[sa.Inspector, sa.Table], list[str]],
) -> Finding:
    missing = [one for table in state.models.tables.values() for one in missing_of(inspector, table)]
    if missing:
        return Finding(name, otherwise, f"Missing: {', '.join(missing)}. {_MEANS[name]}")
    return Finding(name, OK, "As this release needs them.")


_MEANS = {
    "columns": "The tables were changed by hand, or a migration did not finish.",
    "keys": "Without them rows can double. The tables were not made by a migration: copy the rows into ones that are.",
    "indexes": "Queries that need them read whole tables. The migration that makes them was not run, or they were dropped.",
}


def _missing_columns(inspector: sa.Inspector, table: sa.Table) -> list[str]:
    there = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
    return [f"{table.name}.{column.name}" for column in table.columns if column.name not in there]


def _missing_keys(inspector: sa.Inspector, table: sa.Table) -> list[str]:
    key = inspector.get_pk_constraint(table.name, table.schema)["constrained_columns"]
    ours = {column.name for column in table.primary_key.columns}
    missing = [] if set(key) == ours else [f"the primary key of {table.name}"]
    there = {one["name"] for one in inspector.get_unique_constraints(table.name, table.schema)}
    there |= {one["name"] for one in inspector.get_indexes(table.name, table.schema) if one["unique"]}
    unique = [one.name for one in table.constraints if isinstance(one, sa.UniqueConstraint)]
    unique += [index.name for index in table.indexes if index.unique]
    return missing + sorted(str(name) for name in unique if isinstance(name, str) and name not in there)


def _missing_indexes(inspector: sa.Inspector, table: sa.Table) -> list[str]:
    there = {one["name"] for one in inspector.get_indexes(table.name, table.schema)}
    return sorted(str(index.name) for index in table.indexes if not index.unique and index.name not in there)


# -- SQLite -------------------------------------------------------------------------------------------------------------


def _sqlite(connection: sa.Connection, state: State) -> Iterator[Finding]:
    import sqlite3

    version = ".".join(map(str, sqlite3.sqlite_version_info))
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        yield Finding("version", FAIL, f"SQLite {version} is too old: it needs 3.35 for RETURNING.")
    else:
        yield Finding("version", OK, f"SQLite {version}.")
    path = connection.engine.url.database
    if path in (None, "", ":memory:") or "mode=memory" in str(connection.engine.url):
        yield Finding(
            "file", WARN, "The database is in memory: every process has its own, and it is gone with the process."
        )
        return
    yield _file(path or "")
    journal = _pragma(connection, "journal_mode")
    if journal == "wal":
        yield Finding("write-ahead log", OK, "On: readers and the writer do not wait for each other.")
    else:
        why = "CONVERSATIONS_SQLITE_WAL is off." if not state.config.sqlite_wal else "The file could not be switched."
        yield Finding("write-ahead log", WARN, f"Off (journal_mode {journal}): readers wait for writers. {why}")
    waits, wanted = int(_pragma(connection, "busy_timeout")), round(state.config.lock_timeout * 1000)
    if waits == wanted:
        yield Finding("lock timeout", OK, f"A call waits {waits} ms for the database lock.")
    else:
        yield Finding(
            "lock timeout",
            WARN,
            f"A call waits {waits} ms for the database lock, not {wanted} as CONVERSATIONS_LOCK_TIMEOUT says: "
            f"something else of the app sets PRAGMA busy_timeout.",
        )
    enforced = (
        "enforced" if int(_pragma(connection, "foreign_keys")) else "not enforced, which this package does not rely on"
    )
    yield Finding("foreign keys", OK, f"They are {enforced}.")


def _file(path: str) -> Finding:
    folder = os.path.dirname(os.path.abspath(path))
    refused = [place for place in (path, folder) if not os.access(place, os.W_OK)]
    if refused:
        return Finding(
            "file", FAIL, f"This user may not write {refused[0]}. SQLite writes the file and others beside it."
        )
    return Finding("file", OK, f"{path} and its folder can be written.")


def _pragma(connection: sa.Connection, name: str) -> Any:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


# -- PostgreSQL ---------------------------------------------------------------------------------------------------------


def _postgresql(connection: sa.Connection, state: State) -> Iterator[Finding]:
    settings = _settings(connection)
    number = int(settings["server_version_num"]) // 10_000
    if number < OLDEST_POSTGRESQL:
        yield Finding(
            "version", FAIL, f"PostgreSQL {number} is too old: {OLDEST_POSTGRESQL} is the oldest that is supported."
        )
    else:
        yield Finding("version", OK, f"PostgreSQL {settings['server_version']}.")
    yield from _writable(connection, settings)
    yield _isolation(connection)
    yield _privileges(connection, state)
    yield _pooler(connection)
    yield _pool(connection, state, settings)
    yield from _invalid_indexes(connection, state)


_SETTINGS = (
    "server_version",
    "server_version_num",
    "server_encoding",
    "default_transaction_read_only",
    "statement_timeout",
)


def _settings(connection: sa.Connection) -> dict[str, str]:
    query = sa.text("SELECT name, current_setting(name) FROM unnest(CAST(:names AS text[])) AS name")
    found = connection.execute(query, {"names": list(_SETTINGS)})
    return {row.name: row.current_setting for row in found}


def _writable(connection: sa.Connection, settings: dict[str, str]) -> Iterator[Finding]:
    if connection.scalar(sa.select(sa.func.pg_is_in_recovery())):
        yield Finding(
            "writing", FAIL, "This server is a replica and takes no writes. Name the primary in the database URL."
        )
    elif settings["default_transaction_read_only"] == "on":
        yield Finding(
            "writing", FAIL, "default_transaction_read_only is on for this role or database: nothing can be saved."
        )
    if settings["server_encoding"] != "UTF8":
        yield Finding(
            "encoding",
            FAIL,
            f"The database keeps {settings['server_encoding']}: many texts cannot be saved. Make it UTF8.",
        )


def _isolation(connection: sa.Connection) -> Finding:
    driver: Any = connection.connection.driver_connection
    # the server does not know: with autocommit it sees each statement as a transaction
    level = "AUTOCOMMIT" if driver.autocommit else str(connection.get_isolation_level())
    if level == "READ COMMITTED":
        return Finding("isolation", OK, "READ COMMITTED.")
    if level == "AUTOCOMMIT":
        return Finding(
            "isolation",
            FAIL,
            "AUTOCOMMIT: half of a call can be stored. Take isolation_level out of the engine's options.",
        )
    return Finding(
        "isolation",
        WARN,
        f"{level}: calls are tried again after conflicts, and reads go past the cache. READ COMMITTED needs neither.",
    )


def _privileges(connection: sa.Connection, state: State) -> Finding:
    wanted = ("SELECT", "INSERT", "UPDATE", "DELETE")
    inspector = sa.inspect(connection)
    tables = [table for table in state.models.tables.values() if inspector.has_table(table.name, table.schema)]
    quote = connection.dialect.identifier_preparer.format_table
    refused = [
        f"{right} on {table.name}"
        for table in tables
        for right in wanted
        if not connection.scalar(sa.select(sa.func.has_table_privilege(quote(table), right)))
        # the migrating role writes the step, and the app only reads it
        and not (table is state.models.SchemaVersion.__table__ and right != "SELECT")
    ]
    if refused:
        return Finding("privileges", FAIL, f"The app's role lacks: {', '.join(refused)}. GRANT them.")
    return Finding("privileges", OK, "The app's role may do what it needs.")


def _pooler(connection: sa.Connection) -> Finding:
    """A pooler answers the login with a process number of its own."""
    driver: Any = connection.connection.driver_connection
    reported = getattr(getattr(driver, "info", None), "backend_pid", None)
    real = connection.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()
    return pooler_advice(reported, real, getattr(driver, "prepare_threshold", None))


def pooler_advice(reported: int | None, real: int, prepare_threshold: int | None) -> Finding:
    """The finding for the process number that the login *reported*, the *real* one, and psycopg's setting."""
    if reported in (None, real):
        return Finding("pooler", OK, "There is none between the app and the server.")
    if prepare_threshold is not None:
        return Finding(
            "pooler",
            WARN,
            "There is one, PgBouncer say. In transaction mode, before its release 1.21 or with max_prepared_statements = 0, "
            "statements fail with DuplicatePreparedStatement: set "
            'SQLALCHEMY_ENGINE_OPTIONS = {"connect_args": {"prepare_threshold": None}}.',
        )
    return Finding("pooler", OK, "There is one, and the driver prepares no statements on the server.")


def _pool(connection: sa.Connection, state: State, settings: dict[str, str]) -> Finding:
    pool: Any = connection.engine.pool
    statement_timeout = _seconds(settings["statement_timeout"])
    lock_timeout = state.config.lock_timeout
    if statement_timeout and statement_timeout <= lock_timeout:
        return Finding(
            "pool",
            WARN,
            f"statement_timeout is {statement_timeout:g} s, and a call waits {lock_timeout:g} s for a lock: set "
            f"CONVERSATIONS_LOCK_TIMEOUT below it, so that a call behind a lock ends as one.",
        )
    if not hasattr(pool, "_max_overflow"):
        return Finding("pool", OK, f"{type(pool).__name__}.")
    if pool._timeout <= lock_timeout:
        return Finding(
            "pool",
            WARN,
            f"A call waits {pool._timeout:g} s for a connection, and {lock_timeout:g} s for a lock while it holds one: set "
            f"CONVERSATIONS_LOCK_TIMEOUT below pool_timeout.",
        )
    return Finding("pool", OK, f"A call waits {pool._timeout:g} s for a connection, longer than for a lock.")


def _seconds(setting: str) -> float:
    """A PostgreSQL duration, as SHOW prints it."""
    number = "".join(char for char in setting if char.isdigit())
    unit = setting[len(number) :]
    return float(number or 0) * {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86_400}.get(unit, 0.001)


def _invalid_indexes(connection: sa.Connection, state: State) -> Iterator[Finding]:
    names = [str(index.name) for table in state.models.tables.values() for index in table.indexes]
    query = sa.text(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE NOT i.indisvalid AND c.relname = ANY(:names) ORDER BY 1"
    )
    invalid = list(connection.scalars(query, {"names": names}))
    if invalid:
        yield Finding(
            "index state", WARN, f"Never finished, and not used: {', '.join(invalid)}. Run REINDEX INDEX CONCURRENTLY."
        )
