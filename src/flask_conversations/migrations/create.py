"""Tables made without migrations: `create_all()` adds the version row to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ..errors import ConfigurationError
from ..models import Models
from ..tables import CONVERSATIONS, MESSAGES, VERSION
from .runner import all_models, create_schema, current, names_of, operations, refuse_unversioned, stamp, wait_for_others
from .steps import HEAD


def attach(models: Models) -> None:
    """Let every `create_all()` on the metadata of *models* write down the step its tables stand at. Once is enough."""
    _refuse_renamed(models)
    metadata: sa.MetaData = models.SchemaVersion.metadata
    for moment, listener in (("before_create", _before_create), ("after_create", _after_create)):
        if not sa.event.contains(metadata, moment, listener):
            sa.event.listen(metadata, moment, listener)


def create_tables(connection: sa.Connection, models: Models) -> str | None:
    """Create those of our tables that are missing, and nothing else; the step they stand at afterwards."""
    wait_for_others(connection)
    names = names_of(models)
    if current(connection, names) is None:
        refuse_unversioned(connection, names)
        attach(models)
        models.SchemaVersion.metadata.create_all(connection, tables=list(models.tables.values()))
    return current(connection, names)


def _refuse_renamed(models: Models) -> None:
    for model, name in ((models.Conversation, CONVERSATIONS), (models.Message, MESSAGES)):
        if model.__table__.name != models.names.table(name):
            raise ConfigurationError(
                f"Your model {model.__name__} is the table {model.__table__.name!r}, but the migrations make "
                f"{models.names.table(name)!r}. Give it no __tablename__, and __names__ = Names(prefix=...) to match "
                f"CONVERSATIONS_TABLE_PREFIX."
            )


def _before_create(target: sa.MetaData, connection: sa.Connection, *, tables: Sequence[sa.Table], **_: Any) -> None:
    for models in _created(target, tables):
        create_schema(operations(connection, models), names_of(models))


def _after_create(target: sa.MetaData, connection: sa.Connection, *, tables: Sequence[sa.Table], **_: Any) -> None:
    for models in _created(target, tables):
        stamp(connection, models, HEAD)


def _created(metadata: sa.MetaData, tables: Sequence[sa.Table]) -> list[Models]:
    """The models whose tables are all in *tables*. Tables from before are left out, since their columns are unknown."""
    return [
        models
        for models in all_models(metadata)
        if all(table in tables for name, table in models.tables.items() if name != VERSION)
    ]
