"""The database and its tables, as `doctor` sees them."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from typing import Any

import click
import sqlalchemy as sa
from flask import current_app

from .. import migrations
from ..errors import ConversationsError
from .checkup import FAIL, OK, WARN, Check
from .group import engine_of

OLDEST_POSTGRESQL = 14
OLDEST_SQLITE = (3, 35)

CLOCKS_APART = 30.0
"""Seconds that two clocks may differ before it is said."""


def checks(state: Any) -> Iterator[Check]:
    """Everything about the database, as far as it can be reached."""
    try:
        engine = engine_of(state)
        backend = state.backend
    except (click.ClickException, ConversationsError) as error:
        yield Check("database", FAIL, str(getattr(error, "message", error)))
        return
    except ImportError as error:
        yield Check(
            "database",
            FAIL,
            f"The driver is missing: {error}. For PostgreSQL: pip install 'flask-conversations[postgres]'",
        )
        return
    try:
        with engine.connect() as connection:
            backend.set_up(connection)
        # again from the pool, as a call gets it: what the app does to a connection then comes after our set-up
        with engine.connect() as connection:
            backend.set_up(connection)
            yield Check("database", OK, f"{_place(engine.url)} answers.")
            yield from _examined(connection, state)
    except sa.exc.DBAPIError as error:
        said = str(error.orig).strip().splitlines()
        yield Check(
            "database",
            FAIL,
            f"{_place(engine.url)} does not answer: {said[0] if said else type(error.orig).__name__} "
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


def _examined(connection: sa.Connection, state: Any) -> Iterator[Check]:
    if connection.dialect.name == "sqlite":
        yield from _sqlite(connection, state)
    else:
        yield from _postgresql(connection, state)
    yield from _tables(connection, state)


# -- the tables ---------------------------------------------------------------------------------------------------------


def _tables(connection: sa.Connection, state: Any) -> Iterator[Check]:
    """Migration step, tables, columns, keys and indexes, compared with what this release needs."""
    step = migrations.current(connection, migrations.names_of(state.models))
    yield _step(step)
    inspector = sa.inspect(connection)
    missing = [table for table in state.models.tables.values() if not inspector.has_table(table.name, table.schema)]
    if missing:
        names = ", ".join(table.name for table in missing)
        yield Check("tables", FAIL, f"Missing: {names}. {_upgrade()}")
        return
    yield Check("tables", OK, f"All {len(state.models.tables)} are there.")
    yield _compared("columns", FAIL, inspector, state, _missing_columns)
    yield _compared("keys", FAIL, inspector, state, _missing_keys)
    yield _compared("indexes", WARN, inspector, state, _missing_indexes)


def _step(step: str | None) -> Check:
    if step == migrations.HEAD:
        return Check("migrations", OK, f"The tables stand at {step}, as this release needs.")
    if step is None:
        return Check("migrations", FAIL, f"The tables do not say where they stand. {_upgrade()}")
    if step > migrations.HEAD:
        return Check(
            "migrations",
            FAIL,
            f"The tables stand at {step}, beyond {migrations.HEAD}, which is all this release knows. Install the newer release.",
        )
    return Check(
        "migrations", FAIL, f"The tables stand at {step}, and this release needs {migrations.HEAD}. {_upgrade()}"
    )


def _upgrade() -> str:
    if "migrate" in current_app.extensions:
        return "Run 'flask db migrate' and 'flask db upgrade'."
    return "Run 'flask conversations db upgrade'."


def _compared(name: str, otherwise: str, inspector: sa.Inspector, state: Any, missing_of: Any) -> Check:
    missing = [one for table in state.models.tables.values() for one in missing_of(inspector, table)]
    if missing:
        return Check(name, otherwise, f"Missing: {', '.join(missing)}. {_MEANS[name]}")
    return Check(name, OK, "As this release needs them.")


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


def _sqlite(connection: sa.Connection, state: Any) -> Iterator[Check]:
    import sqlite3

    version = ".".join(map(str, sqlite3.sqlite_version_info))
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        yield Check("version", FAIL, f"SQLite {version} is too old: it needs 3.35 for RETURNING.")
    else:
        yield Check("version", OK, f"SQLite {version}.")
    path = connection.engine.url.database
    if path in (None, "", ":memory:") or "mode=memory" in str(connection.engine.url):
        yield Check(
            "file", WARN, "The database is in memory: every process has its own, and it is gone with the process."
        )
        return
    yield _file(path or "")
    journal = _pragma(connection, "journal_mode")
    if journal == "wal":
        yield Check("write-ahead log", OK, "On: readers and the writer do not wait for each other.")
    else:
        why = "CONVERSATIONS_SQLITE_WAL is off." if not state.config.sqlite_wal else "The file could not be switched."
        yield Check("write-ahead log", WARN, f"Off (journal_mode {journal}): readers wait for writers. {why}")
    waits, wanted = int(_pragma(connection, "busy_timeout")), round(state.config.lock_timeout * 1000)
    if waits == wanted:
        yield Check("lock timeout", OK, f"A call waits {waits} ms for the database lock.")
    else:
        yield Check(
            "lock timeout",
            WARN,
            f"A call waits {waits} ms for the database lock, not {wanted} as CONVERSATIONS_LOCK_TIMEOUT says: "
            f"something else of the app sets PRAGMA busy_timeout.",
        )
    enforced = (
        "enforced" if int(_pragma(connection, "foreign_keys")) else "not enforced, which this package does not rely on"
    )
    yield Check("foreign keys", OK, f"They are {enforced}.")


def _file(path: str) -> Check:
    folder = os.path.dirname(os.path.abspath(path))
    refused = [place for place in (path, folder) if not os.access(place, os.W_OK)]
    if refused:
        return Check(
            "file", FAIL, f"This user may not write {refused[0]}. SQLite writes the file and others beside it."
        )
    return Check("file", OK, f"{path} and its folder can be written.")


def _pragma(connection: sa.Connection, name: str) -> Any:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


# -- PostgreSQL ---------------------------------------------------------------------------------------------------------


def _postgresql(connection: sa.Connection, state: Any) -> Iterator[Check]:
    settings = _settings(connection)
    number = int(settings["server_version_num"]) // 10_000
    if number < OLDEST_POSTGRESQL:
        yield Check(
            "version", FAIL, f"PostgreSQL {number} is too old: {OLDEST_POSTGRESQL} is the oldest that is supported."
        )
    else:
        yield Check("version", OK, f"PostgreSQL {settings['server_version']}.")
    yield from _writable(connection, settings)
    yield from _durable(settings)
    yield _isolation(connection)
    yield _privileges(connection, state)
    yield _pooler(connection)
    yield _pool(connection, state, settings)
    yield _clock(connection)
    yield from _spoilt_indexes(connection, state)


_ASKED = (
    "server_version",
    "server_version_num",
    "server_encoding",
    "fsync",
    "synchronous_commit",
    "default_transaction_read_only",
    "max_connections",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
)


def _settings(connection: sa.Connection) -> dict[str, str]:
    query = sa.text("SELECT name, current_setting(name) FROM unnest(CAST(:names AS text[])) AS name")
    found = connection.execute(query, {"names": list(_ASKED)})
    return {row.name: row.current_setting for row in found}


def _writable(connection: sa.Connection, settings: dict[str, str]) -> Iterator[Check]:
    if connection.scalar(sa.select(sa.func.pg_is_in_recovery())):
        yield Check(
            "writing", FAIL, "This server is a replica and takes no writes. Name the primary in the database URL."
        )
    elif settings["default_transaction_read_only"] == "on":
        yield Check(
            "writing", FAIL, "default_transaction_read_only is on for this role or database: nothing can be saved."
        )
    if settings["server_encoding"] != "UTF8":
        yield Check(
            "encoding",
            FAIL,
            f"The database keeps {settings['server_encoding']}: many texts cannot be saved. Make it UTF8.",
        )


def _durable(settings: dict[str, str]) -> Iterator[Check]:
    off = [name for name in ("fsync", "synchronous_commit") if settings[name] == "off"]
    if off:
        yield Check("durability", WARN, f"Off: {' and '.join(off)}. A power cut loses messages that were acknowledged.")
    else:
        yield Check("durability", OK, f"fsync is on, synchronous_commit is {settings['synchronous_commit']}.")


def _isolation(connection: sa.Connection) -> Check:
    driver: Any = connection.connection.driver_connection
    # the server's own answer does not know of it: to the server each statement is a transaction then
    level = "AUTOCOMMIT" if driver.autocommit else str(connection.get_isolation_level())
    if level == "READ COMMITTED":
        return Check("isolation", OK, "READ COMMITTED.")
    if level == "AUTOCOMMIT":
        return Check(
            "isolation",
            FAIL,
            "AUTOCOMMIT: half of a call can be stored. Take isolation_level out of the engine's options.",
        )
    return Check(
        "isolation",
        WARN,
        f"{level}: calls are tried again after conflicts, and reads go past the cache. READ COMMITTED needs neither.",
    )


def _privileges(connection: sa.Connection, state: Any) -> Check:
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
        return Check("privileges", FAIL, f"The app's role lacks: {', '.join(refused)}. GRANT them.")
    if connection.scalar(sa.text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")):
        return Check(
            "privileges", WARN, "The app's role is a superuser. Give it one that may read and write these tables only."
        )
    return Check("privileges", OK, "The app's role may do what it needs.")


def _pooler(connection: sa.Connection) -> Check:
    """A pooler answers the login with a process number of its own making."""
    driver: Any = connection.connection.driver_connection
    told = getattr(getattr(driver, "info", None), "backend_pid", None)
    real = connection.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()
    return pooler_advice(told, real, getattr(driver, "prepare_threshold", None))


def pooler_advice(told: int | None, real: int, prepare_threshold: int | None) -> Check:
    """What to say of the process number that the login *told*, the *real* one, and psycopg's setting."""
    if told in (None, real):
        return Check("pooler", OK, "There is none between the app and the server.")
    if prepare_threshold is not None:
        return Check(
            "pooler",
            WARN,
            "There is one, PgBouncer say. In transaction mode, before its release 1.21 or with max_prepared_statements = 0, "
            "statements fail with DuplicatePreparedStatement: set "
            'SQLALCHEMY_ENGINE_OPTIONS = {"connect_args": {"prepare_threshold": None}}.',
        )
    return Check("pooler", OK, "There is one, and the driver prepares no statements on the server.")


def _pool(connection: sa.Connection, state: Any, settings: dict[str, str]) -> Check:
    pool: Any = connection.engine.pool
    statement_timeout = _seconds(settings["statement_timeout"])
    patience = state.config.lock_timeout
    if statement_timeout and statement_timeout <= patience:
        return Check(
            "pool",
            WARN,
            f"statement_timeout is {statement_timeout:g} s, and a call waits {patience:g} s for a lock: set "
            f"CONVERSATIONS_LOCK_TIMEOUT below it, so that a call behind a lock ends as one.",
        )
    if not hasattr(pool, "_max_overflow"):
        return Check("pool", OK, f"{type(pool).__name__}.")
    size, overflow, waits = pool.size(), pool._max_overflow, pool._timeout
    at_most, room = (None if overflow < 0 else size + overflow), int(settings["max_connections"])
    if at_most is None or at_most > room:
        count = "any number of" if at_most is None else str(at_most)
        return Check(
            "pool",
            WARN,
            f"Each process may open {count} connections, and the server takes {room} in all: set pool_size and max_overflow.",
        )
    if waits <= patience:
        return Check(
            "pool",
            WARN,
            f"A call waits {waits:g} s for a connection, and {patience:g} s for a lock while it holds one: set "
            f"CONVERSATIONS_LOCK_TIMEOUT below pool_timeout.",
        )
    return Check("pool", OK, f"At most {at_most} connections a process; the server takes {room} in all.")


def _seconds(setting: str) -> float:
    """A PostgreSQL duration, as SHOW prints it."""
    number = "".join(char for char in setting if char.isdigit())
    unit = setting[len(number) :]
    return float(number or 0) * {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86_400}.get(unit, 0.001)


def _clock(connection: sa.Connection) -> Check:
    theirs: dt.datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    apart = abs((dt.datetime.now(dt.timezone.utc) - theirs).total_seconds())
    if apart > CLOCKS_APART:
        return Check(
            "clock", WARN, f"The database's clock and this machine's are {apart:.0f} s apart. Run NTP on both."
        )
    return Check("clock", OK, "The database's agrees with this machine's.")


def _spoilt_indexes(connection: sa.Connection, state: Any) -> Iterator[Check]:
    names = [str(index.name) for table in state.models.tables.values() for index in table.indexes]
    query = sa.text(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE NOT i.indisvalid AND c.relname = ANY(:names) ORDER BY 1"
    )
    spoilt = list(connection.scalars(query, {"names": names}))
    if spoilt:
        yield Check(
            "index state", WARN, f"Never finished, and not used: {', '.join(spoilt)}. Run REINDEX INDEX CONCURRENTLY."
        )
