"""The steps make exactly the tables that the models describe, and take them away again."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from flask_conversations import migrations
from flask_conversations.models import build
from flask_conversations.tables import Names

from .conftest import described

LAYOUTS = [
    Names(),
    Names(prefix="chat_"),
    Names(user_foreign_key="users.id", org_foreign_key="orgs.id"),
]
CONVENTIONS = [
    {},
    {
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    },
    {"pk": "pk_%(table_name)s", "uq": "%(table_name)s_%(column_0_name)s_key"},
]


def host_metadata(names: Names, convention=None, schema=None):
    metadata = sa.MetaData(naming_convention=convention or {}, schema=schema)
    for table in ("users", "orgs"):
        sa.Table(table, metadata, sa.Column("id", sa.String(255), primary_key=True))
    return metadata, build(metadata, names)


def run(url, work):
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            return work(connection)
    finally:
        engine.dispose()


def migrate_up(connection, models):
    migrations.migrate(connection, models, migrations.HEAD, up=True)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=["plain", "full", "partial"])
@pytest.mark.parametrize("names", LAYOUTS, ids=["default", "prefix", "foreign keys"])
def test_the_steps_make_what_create_all_makes(database, names, convention):
    """Types, nullability, keys, indexes and constraints agree, whatever the host calls its own."""
    metadata, models = host_metadata(names, convention)
    host_tables = [metadata.tables["users"], metadata.tables["orgs"]]

    def by_steps(connection):
        metadata.create_all(connection, tables=host_tables)
        migrate_up(connection, models)
        return described(connection)

    def by_models(connection):
        metadata.create_all(connection)
        return described(connection)

    assert run(database.empty(), by_steps) == run(database.empty(), by_models)


@pytest.mark.parametrize("names", LAYOUTS, ids=["default", "prefix", "foreign keys"])
def test_alembic_sees_no_difference_after_the_steps(database, names):
    """Compared as if the tables were the host's own, so that nothing is left out."""
    metadata, models = host_metadata(names)
    plain = sa.MetaData()
    for table in metadata.tables.values():
        table.to_metadata(plain)

    def compare(connection):
        metadata.create_all(connection, tables=[metadata.tables["users"], metadata.tables["orgs"]])
        migrate_up(connection, models)
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, plain)

    assert run(database.empty(), compare) == []


def test_down_leaves_nothing(database):
    models = host_metadata(Names())[1]

    def up_and_down(connection):
        migrate_up(connection, models)
        migrations.migrate(connection, models, None, up=False)
        return described(connection)

    assert run(database.empty(), up_and_down) == {}


@pytest.mark.parametrize("work", [migrations.create_tables, migrate_up], ids=["create-tables", "upgrade"])
def test_processes_that_start_together_wait_for_each_other(database, threads, work):
    models = host_metadata(Names())[1]
    url = database.empty()
    threads(4, lambda _: run(url, lambda connection: work(connection, models)))
    assert run(url, lambda connection: migrations.current(connection, Names())) == migrations.HEAD


def test_a_step_that_fails_leaves_nothing(database, monkeypatch):
    """Outside a host's revision too, on both databases."""
    models = host_metadata(Names())[1]
    url = database.empty()
    step = migrations.steps.up(None, migrations.HEAD)[-1]
    monkeypatch.setattr(step, "_create_query_log", lambda names: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(url, lambda connection: migrate_up(connection, models))
    assert run(url, described) == {}
