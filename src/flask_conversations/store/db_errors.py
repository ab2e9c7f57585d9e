"""The meaning of database errors: a retry may help, a duplicate, missing tables, an aborted transaction, no database."""

from __future__ import annotations

import sqlalchemy as sa

from ..errors import ClientIdConflict, ConversationsError, SchemaMissing, StorageUnavailable, TransactionAborted

_SERIALIZATION = {"40001", "40P01"}
_LOCKED_OUT = {"55P03"}
_READ_ONLY = {"25006", "42501"}
_ABORTED = "25P02"
_UNIQUE = "23505"
_NO_TABLE = {"42P01", "42703", "3F000"}


def is_duplicate(error: BaseException) -> bool:
    """Another transaction took the unique key in the meantime."""
    return isinstance(error, sa.exc.IntegrityError) and (
        _state(error) == _UNIQUE or "UNIQUE constraint failed" in str(error.orig)
    )


def is_transient(error: BaseException) -> bool:
    """Nothing was done, and doing it again may work: a serialization failure, a deadlock, a connection gone stale."""
    return is_conflict(error) or (isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated)


def is_conflict(error: BaseException) -> bool:
    """The database has rolled the transaction back because of another one: for certain, even at the commit."""
    return isinstance(error, sa.exc.DBAPIError) and _state(error) in _SERIALIZATION


def is_read_only(error: BaseException) -> bool:
    """The database, the transaction or the role takes no locks and no changes: a replica, say."""
    return isinstance(error, sa.exc.DBAPIError) and _state(error) in _READ_ONLY


def translated(error: BaseException) -> ConversationsError | None:
    """Our error for a database that is down or not set up, and for an id that is taken; None for anything else."""
    if isinstance(error, sa.exc.TimeoutError):
        return StorageUnavailable("No database connection became free in time.")
    if isinstance(error, sa.exc.PendingRollbackError):
        return StorageUnavailable(
            "The connection to the database was lost in the middle of the transaction: roll it back."
        )
    if not isinstance(error, sa.exc.DBAPIError):
        return None
    if is_duplicate(error):
        return ClientIdConflict("This id is taken.")
    if _state(error) in _NO_TABLE or "no such table" in str(error.orig) or "no such column" in str(error.orig):
        return SchemaMissing("The conversation tables are missing or old: run `flask db upgrade`, or create-tables.")
    if _state(error) == _ABORTED:
        return TransactionAborted()
    if _state(error) in _LOCKED_OUT or "database is locked" in str(error.orig):
        return StorageUnavailable("Another transaction holds the lock on this conversation for too long.")
    if error.connection_invalidated or isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
        return StorageUnavailable()
    return None


def _state(error: sa.exc.DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
