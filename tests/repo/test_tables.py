"""The registry of the tables says what the tables are."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from flask_conversations import tables
from flask_conversations.models import build
from flask_conversations.tables import TABLES


def test_every_table_has_a_name_of_its_own():
    """Each name, class and mixin is registered once, and every mixin of the module is registered."""
    mixins = {value for name, value in vars(tables).items() if name.endswith("Mixin")}
    assert {table.mixin for table in TABLES} == mixins
    assert len({table.name for table in TABLES}) == len({table.model for table in TABLES}) == len(mixins) == len(TABLES)


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
