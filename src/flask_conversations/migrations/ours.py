"""The objects of an autogenerate run that are ours, and our step that is due in its database."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext

from ..models import Models, build
from ..tables import CONVERSATIONS, MESSAGES, Names
from .runner import all_models, current, models_on, names_of, refuse_unversioned
from .steps import HEAD, UNMODELLED, refuse_unknown

_Place = tuple[str | None, str]
"""Schema and name of a table; the schema is None if it is the default one of the database."""

_PARTITION = re.compile(r"_(p\d+|default)")


class Ours:
    """Our tables on the metadata of one autogenerate run, and their step in its database."""

    def __init__(self, context: AutogenContext) -> None:
        assert context.connection is not None
        self._default_schema = context.connection.dialect.default_schema_name
        self._tables: dict[_Place, sa.Table] = {}
        self._unmodelled: set[_Place] = set()
        self._messages: set[_Place] = set()
        for names in map(names_of, all_models(context.metadata)):
            self._tables |= {self._place(table.schema, table.name): table for table in _plain_tables(names).values()}
            self._unmodelled |= {self._place(names.schema, names.table(name)) for name in UNMODELLED}
            self._messages.add(self._place(names.schema, names.table(MESSAGES)))

        self._models = models_on(context.metadata)
        self.since = _current_step(context.connection, self._models)
        self.due = self._models is not None and self.since != HEAD

    def has_table(self, schema: str | None, name: str) -> bool:
        """Is this one of our tables, or a partition of one?"""
        place = self._place(schema, name)
        return place in self._tables or place in self._unmodelled or self._is_partition(place)

    def has_part(self, schema: str | None, table: str, kind: str, name: str | None, *, gone: bool) -> bool:
        """Is this column, index or constraint of that table ours? *gone*: the database has it, the models have not.

        A part that is gone while a step is due may be one that the step removes. Foreign keys to the host's users and
        organisations are the host's: it may add or remove them later.
        """
        ours = self._tables.get(self._place(schema, table))
        if ours is None or (gone and self.due):
            return self.has_table(schema, table)
        return name in _names_in(ours, kind)

    def needs(self, schema: str | None, table: str) -> bool:
        """Do our tables refer to this one of the host, so that it must be there before them?"""
        return self._place(schema, table) in self._needed

    def additions(self) -> Iterator[tuple[sa.Table, list[Any]]]:
        """The host's additions to the tables that the step will create."""
        if self._models is None or self.since is not None:
            return
        names = names_of(self._models)
        made_by_step = {names.object("fk", CONVERSATIONS, "user"), names.object("fk", CONVERSATIONS, "org")}
        for table in self._models.tables.values():
            ours = self._tables[self._place(table.schema, table.name)]
            known = {*_names_in(ours, "column"), *_names_in(ours, "index"), *made_by_step}
            yield table, [part for part in _parts(table) if part.name not in known]

    @functools.cached_property
    def _needed(self) -> set[_Place]:
        found: set[_Place] = set()
        left = [] if self._models is None else list(self._models.tables.values())
        while left:
            for key in left.pop().foreign_keys:
                table = key.column.table
                place = self._place(table.schema, table.name)
                if place not in self._tables and place not in found:
                    found.add(place)
                    left.append(table)
        return found

    def _place(self, schema: str | None, name: str) -> _Place:
        return (None if schema == self._default_schema else schema, name)

    def _is_partition(self, place: _Place) -> bool:
        schema, name = place
        return any(
            schema == of_schema and name.startswith(table) and _PARTITION.fullmatch(name, len(table)) is not None
            for of_schema, table in self._messages
        )


def _current_step(connection: sa.Connection, models: Models | None) -> str | None:
    if models is None:
        return None
    names = names_of(models)
    since = current(connection, names)
    if since is None:
        refuse_unversioned(connection, names)
    refuse_unknown(since)
    return since


@functools.lru_cache
def _plain_tables(names: Names) -> Mapping[str, sa.Table]:
    """Our tables without anything of the host's."""
    plain = dataclasses.replace(names, user_foreign_key=None, org_foreign_key=None)
    return build(sa.MetaData(), plain).tables


def _names_in(table: sa.Table, kind: str) -> set[str | None]:
    if kind == "column":
        return {column.name for column in table.columns}
    return {part.name for part in (*table.indexes, *_constraints(table)) if isinstance(part.name, str)}


def _parts(table: sa.Table) -> list[Any]:
    return [*table.columns, *sorted(table.indexes, key=lambda index: str(index.name)), *_constraints(table)]


def _constraints(table: sa.Table) -> list[sa.UniqueConstraint | sa.ForeignKeyConstraint]:
    """The ones Alembic compares, in an order that does not change from run to run."""
    compared = (sa.UniqueConstraint, sa.ForeignKeyConstraint)
    found = [constraint for constraint in table.constraints if isinstance(constraint, compared)]
    return sorted(found, key=lambda constraint: (str(constraint.name), [column.name for column in constraint.columns]))
