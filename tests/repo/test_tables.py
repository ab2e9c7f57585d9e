"""The registry of the tables says what the tables are."""

from __future__ import annotations

import dataclasses

import pytest
import sqlalchemy as sa

from flask_conversations.models import Models, build
from flask_conversations.tables import TABLES


def test_every_class_is_in_the_registry():
    """A class of `Models` that no table names would be created, and then be forgotten by all that goes over the tables."""
    classes = {field.name for field in dataclasses.fields(Models) if field.name[0].isupper()}
    assert {table.model for table in TABLES} == classes
    assert len({table.name for table in TABLES}) == len(TABLES)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_registry_says_what_the_columns_say(table):
    """Rows of a conversation go with it, and those that carry its owner follow the owner; the query log stays."""
    models = build(sa.MetaData())
    built = models.tables[table.name]
    belongs = "conversation_id" in built.c and table.model != "QueryLog"
    assert bool(table.orphans) == belongs
    assert table.has_owner == (belongs and table.model != "Idempotency")
    if table.has_owner:
        assert {"org_id", "user_id"} <= set(built.c.keys())
