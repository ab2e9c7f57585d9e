"""The classes of our tables on the metadata of a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import orm

from .errors import ConfigurationError
from .tables import TABLES, Names


class Models:
    """The classes of one metadata, each under its name in the registry of tables: `Conversation`, `Message`, ..."""

    def __init__(self, names: Names, classes: Mapping[str, Any]) -> None:
        self.names = names
        self.statements: dict[Any, Any] = {}
        """SQL built once for these classes; see `store.statement`."""
        vars(self).update(classes)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def tables(self) -> dict[str, sa.Table]:
        """Our tables by their unprefixed names."""
        return {table.name: getattr(self, table.model).__table__ for table in TABLES}

    @property
    def owned(self) -> list[Any]:
        """The classes whose rows carry the owner of their conversation."""
        return [getattr(self, table.model) for table in TABLES if table.has_owner]

    @property
    def of_conversations(self) -> list[Any]:
        """The classes whose rows are deleted with their conversation."""
        return [getattr(self, table.model) for table in TABLES if table.orphans]


_KEY = "flask_conversations"


def build(
    metadata: sa.MetaData, names: Names | None = None, *, conversation: Any = None, message: Any = None
) -> Models:
    """The classes on *metadata*, made once for each choice of names.

    *conversation* and *message* are the host's own: a mapped subclass of `ConversationMixin` or `MessageMixin`, or a plain
    mixin whose columns are added to ours. Raises `ConfigurationError` if the host already owns a table of one of our names.
    """
    names = names or Names()
    built: dict[Any, Models] = metadata.info.setdefault(_KEY, {})
    key = (names, conversation, message)
    if key not in built:
        _refuse_clash(metadata, names, {cls for cls in (conversation, message) if _is_mapped(cls)})
        built[key] = _build(metadata, names, conversation, message)
    return built[key]


def _is_mapped(cls: Any) -> bool:
    return cls is not None and "__table__" in vars(cls)


def _refuse_clash(metadata: sa.MetaData, names: Names, own: set[Any]) -> None:
    substituted = {cls.__table__.key for cls in own}
    for table in TABLES:
        key = f"{names.schema}.{names.table(table.name)}" if names.schema else names.table(table.name)
        if key in metadata.tables and key not in substituted:
            raise ConfigurationError(
                f"This app already has a table {key!r}. "
                f'Set CONVERSATIONS_TABLE_PREFIX, to "chat_" say, to give the tables of Flask-Conversations other names.'
            )


def _build(metadata: sa.MetaData, names: Names, conversation: Any, message: Any) -> Models:
    base: Any = type("ConversationsBase", (orm.DeclarativeBase,), {"metadata": metadata, "__names__": names})

    extras = {"Conversation": conversation, "Message": message}
    classes: dict[str, Any] = {}
    for table in TABLES:
        extra = extras.get(table.model)
        # the first class is the conversation, which the others refer to
        attributes = {"__conversation_key__": classes["Conversation"].__table__.c.id} if classes else {}
        bases = (extra, table.mixin, base) if extra is not None else (table.mixin, base)
        mapped = _is_mapped(extra)
        classes[table.model] = extra if mapped else type(table.model, bases, {"__module__": __name__, **attributes})
    return Models(names, classes)
