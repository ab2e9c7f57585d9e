"""All SQL, as one identity sees the rows: only `mine` and `get` decide which rows exist for it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from ..errors import ConversationNotFound, Forbidden, IdentityRequired
from ..identity.base import Identity
from ..models import Models
from ..schemas import conversations as conversation_schema
from ..schemas import rules
from ..tables import NO_ORG
from .rows import ConversationRow

Build = TypeVar("Build", bound=Callable[..., Any])


OnChange = Callable[[str, int, int], None]
"""Called with the id, the version and the `rev` of each conversation that a statement has changed."""


def statement(build: Build) -> Build:
    """Build a statement once per models and shape: composing SQL costs more than running it."""

    @functools.wraps(build)
    def built(models: Models, *shape: Any) -> Any:
        key = (build.__module__, build.__qualname__, *shape)
        found = models.statements.get(key)
        if found is None:
            found = models.statements[key] = build(models, *shape)
        return found

    return cast("Build", built)


class Store:
    """The rows that *identity* may see, on the host's *session*; `identity=None` is the system, which sees all."""

    def __init__(
        self,
        session: Session,
        models: Models,
        identity: Identity | None,
        *,
        set_up: Callable[[sa.Connection], None],
        lock_timeout: float,
        foreign_status: int,
        on_change: OnChange | None = None,
    ) -> None:
        self.session = session
        self.models = models
        self.identity = identity
        self.system = identity is None
        self._set_up = set_up
        self._foreign_status = foreign_status
        self._on_change = on_change
        self._connection: sa.Connection | None = None
        self._parameters: dict[str, Any] = {"lock_timeout": f"{round(lock_timeout * 1000)}ms"}
        if identity is not None:
            self._parameters.update(mine_org=identity.org_id or NO_ORG, mine_user=identity.user_id)

    @property
    def owner(self) -> dict[str, str]:
        """The owner columns of a new row. Raises `IdentityRequired` for the system, which owns nothing."""
        if self.identity is None:
            raise IdentityRequired("The system owns no conversations: use as_user(...) to create one for a user.")
        return {"org_id": self._parameters["mine_org"], "user_id": self._parameters["mine_user"]}

    @property
    def connection(self) -> sa.Connection:
        """The connection of the session's transaction, taken anew if a host's guard has ended that transaction."""
        # no functools.cached_property: before Python 3.12 all threads share its lock, and would wait for each other's connection
        if self._connection is None or self._connection.closed:
            self._connection = self.session.connection(bind_arguments={"mapper": self.models.Conversation})
            self._set_up(self._connection)
        return self._connection

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return (self._connection or self.connection).dialect.name

    def renew_connection(self) -> None:
        """Take the connection anew: the session sends SAVEPOINT with the first use of its connection inside one."""
        self._connection = None
        _ = self.connection

    @property
    def sees_commits(self) -> bool:
        """Whether the transaction in progress sees the commits of others."""
        driver = self.connection.connection.driver_connection
        if self.dialect == "sqlite":
            return not driver.in_transaction  # type: ignore[union-attr]
        level = getattr(driver, "isolation_level", None)
        name = str(getattr(level, "name", level) or self.connection.default_isolation_level)
        return self.dialect == "postgresql" and name.replace("_", " ").upper() == "READ COMMITTED"

    def record_change(self, conversation_id: str, version: int, rev: int) -> None:
        """Report a new version of a conversation, or its removal. Every such statement has to."""
        if self._on_change is not None:
            self._on_change(conversation_id, version, rev)

    def execute(self, query: Any, parameters: Mapping[str, Any] | None = None) -> sa.CursorResult[Any]:
        """Run one statement of ours in the session's transaction."""
        connection = self._connection
        if connection is None or connection.closed:
            connection = self.connection
        return connection.execute(query, {**self._parameters, **parameters} if parameters else self._parameters)

    def insert(self, table: Any, rows: list[dict[str, Any]]) -> None:
        """Insert *rows*, which all have the same columns."""
        self.connection.execute(_insert(self.models, table), rows if len(rows) > 1 else rows[0])

    def insert_unless_taken(self, table: Any, row: Mapping[str, Any], returning: list[Any]) -> sa.Row[Any] | None:
        """Insert *row* and read it back; None if one of its unique keys is taken."""
        query = _insert_unless_taken(self.models, table, self.dialect, tuple(row), tuple(returning))
        return self.execute(query, {f"its_{name}": value for name, value in row.items()}).first()

    def get(self, conversation_id: Any, *, trash: bool = False) -> ConversationRow:
        """The conversation of that id, or `ConversationNotFound`: the only way from an id to a row.

        *trash* finds deleted ones too. With `CONVERSATIONS_FOREIGN_STATUS = 403` another user's raises `Forbidden`.
        """
        return self._row(conversation_id, trash, None)

    def lock(self, conversation_id: Any, *, trash: bool = False) -> ConversationRow:
        """Like `get`, and no other transaction changes the conversation until this one ends."""
        return self._row(conversation_id, trash, self.dialect)

    def _row(self, conversation_id: Any, trash: bool, locking_on: str | None) -> ConversationRow:
        column, key = self.key(conversation_id)
        found = self.execute(_get(self.models, self.system, column, trash, locking_on), {"key": key}).first()
        if found is None:
            raise self.missing(conversation_id)
        return found

    def key(self, conversation_id: Any) -> tuple[str, str]:
        """The column that holds an id from outside, and its value there. Raises `ConversationNotFound` for an invalid id."""
        own_id = rules.uuid_or_none(conversation_id)
        if own_id is not None:
            return "id", own_id
        # a client id is unique for its owner only, and the system sees all owners
        if rules.is_client_id(conversation_id) and not self.system:
            return "client_id", conversation_id
        raise ConversationNotFound

    def missing(self, conversation_id: Any) -> Exception:
        """The error for the id of a conversation that `mine` excludes."""
        if self._foreign_status == 403 and (own_id := rules.uuid_or_none(conversation_id)):
            exists = self.execute(_exists(self.models), {"key": own_id}).first()
            if exists is not None and exists.foreign:
                return Forbidden()
        return ConversationNotFound()


def mine(models: Models, system: bool) -> sa.ColumnElement[bool]:
    """The one predicate of ownership. Its parameters come from the store, never from a caller."""
    return sa.true() if system else owned_by_me(models.Conversation.__table__.c)


def owned_by_me(c: Any) -> sa.ColumnElement[bool]:
    """The predicate of ownership for the columns *c* of any table with an owner."""
    return sa.and_(c.user_id == sa.bindparam("mine_user"), c.org_id == sa.bindparam("mine_org"))


def visible(models: Models, trash: bool = False) -> sa.ColumnElement[bool]:
    """Conversations outside the trash, or all of them."""
    return sa.true() if trash else models.Conversation.__table__.c.status != constant("deleted")


def constant(value: int | str) -> sa.ColumnElement[Any]:
    """A value of ours written into the SQL: a parameter would be converted, sent and read at each execution."""
    return sa.literal_column(f"'{value}'" if isinstance(value, str) else str(value))


def bounded_lock_wait(dialect: str | None) -> sa.ColumnElement[bool]:
    """A condition that bounds the wait for a row lock without a round trip of its own (PostgreSQL; SQLite has a busy timeout).

    An uncorrelated subquery runs before the rows it guards are locked; `is_local` ends the setting with the transaction.
    """
    if dialect != "postgresql":
        return sa.true()
    name, timeout = constant("lock_timeout"), sa.bindparam("lock_timeout", type_=sa.Text)
    setting = sa.select(sa.func.set_config(name, timeout, sa.true()))
    return setting.scalar_subquery().is_not(None)


def keyed(models: Models, column: str) -> sa.ColumnElement[bool]:
    """The conversation whose `id` or `client_id` is the parameter `key`."""
    c = models.Conversation.__table__.c
    return cast("sa.ColumnElement[bool]", c[column] == sa.bindparam("key", type_=c[column].type))


def conversation_columns(models: Models) -> list[sa.ColumnElement[Any]]:
    """The columns that are read of a conversation, in the order that `schemas.conversations.dump` expects."""
    c = models.Conversation.__table__.c
    return [c[name] for name in conversation_schema.STORED]


@statement
def _get(models: Models, system: bool, column: str, trash: bool, locking_on: str | None) -> Any:
    query = sa.select(*conversation_columns(models)).where(
        keyed(models, column), mine(models, system), visible(models, trash)
    )
    return query.where(bounded_lock_wait(locking_on)).with_for_update() if locking_on else query


@statement
def _exists(models: Models) -> Any:
    c = models.Conversation.__table__.c
    foreign = sa.not_(mine(models, False)).label("foreign")
    return sa.select(foreign).where(keyed(models, "id"), c.status != "deleted")


@statement
def _insert(models: Models, table: sa.Table) -> Any:
    return sa.insert(table)


@statement
def _insert_unless_taken(
    models: Models, table: sa.Table, dialect: str, names: tuple[str, ...], returning: tuple[Any, ...]
) -> Any:
    # a SELECT rather than VALUES: the other writer of the key may never commit, and only a WHERE bounds the wait
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    row = sa.select(*(sa.bindparam(f"its_{name}", type_=table.c[name].type) for name in names))
    query = insert(table).from_select(names, row.where(bounded_lock_wait(dialect)))
    return query.on_conflict_do_nothing().returning(*returning)
