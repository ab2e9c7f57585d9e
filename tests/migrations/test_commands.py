"""`flask conversations revision`, `create-tables` and `db`: the door for an operator, with and without Flask-Migrate."""

from __future__ import annotations

import pytest

from flask_conversations import migrations
from flask_conversations.tables import TABLES, VERSION

from .test_hosts import OURS, STEP, Department, users


def test_revision_writes_our_step_and_nothing_else(host):
    app = host(users)
    app.run("conversations", "revision", "-m", "chat")

    (revision,) = app.revisions()
    assert revision.name.endswith("_chat.py")
    assert STEP in revision.read_text()
    assert "users" not in revision.read_text()
    app.run("db", "upgrade")
    assert app.tables() == OURS


def test_revision_has_nothing_to_write_when_no_step_is_due(host):
    app = host(users)
    app.run("conversations", "db", "upgrade")
    assert "No changes" in app.run("conversations", "revision")
    assert app.revisions() == []


def test_revision_from_nothing_for_tables_that_are_there(host):
    """A developer's database made by `create_all` gets its history for the others."""
    app = host()
    app.run("conversations", "create-tables")
    app.run("conversations", "revision", "--since", "base")
    assert STEP in app.revisions()[0].read_text()
    app.run("db", "upgrade")
    app.run("db", "check")
    assert app.tables() == OURS


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_revision_in_a_folder_without_migrations(host, tmp_path):
    app = host()
    said = app.run("conversations", "revision", "-d", str(tmp_path / "nowhere"), fails=True)
    assert "nowhere" in said
    assert "Traceback" not in said


def test_up_and_down_without_flask_migrate(host):
    app = host()
    assert "none" in app.run("conversations", "db", "current")
    assert "from base to 0001" in app.run("conversations", "db", "upgrade")
    assert app.tables() == OURS
    assert "0001 (head)" in app.run("conversations", "db", "current")
    assert "Nothing to do" in app.run("conversations", "db", "upgrade")
    assert "from 0001 to base" in app.run("conversations", "db", "downgrade", "base", "--yes")
    assert app.tables() == set()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_removing_the_tables_is_asked_for(host):
    app = host()
    app.run("conversations", "db", "upgrade")
    app.run("conversations", "db", "downgrade", "base", fails=True, input="n\n")
    assert app.tables() == OURS


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_unknown_step(host):
    said = host().run("conversations", "db", "upgrade", "0815", fails=True)
    assert "no step '0815'" in said


def test_a_mark_for_tables_made_by_other_means(host):
    """`stamp` writes the row; without it nothing is touched."""
    app = host()
    app.run("conversations", "db", "upgrade")
    app.execute("DROP TABLE conversation_schema")
    assert "stamp" in app.run("conversations", "db", "upgrade", fails=True)
    assert "stamp" in app.run("conversations", "create-tables", fails=True)
    app.run("conversations", "db", "stamp", "0001")
    assert "0001 (head)" in app.run("conversations", "db", "current")
    app.run("db", "check")


@pytest.mark.parametrize("table", [table.name for table in TABLES if table.name != VERSION])
def test_a_table_that_was_left_behind_is_not_taken_over(host, table):
    """Whichever of ours it is called like: its contents are unknown."""
    app = host()
    app.execute(f"CREATE TABLE {table} (id INTEGER)")
    assert table in app.run("conversations", "db", "upgrade", fails=True)
    assert table in app.run("conversations", "create-tables", fails=True)


def test_create_tables_makes_only_ours_and_may_be_repeated(host):
    app = host(users)
    for _ in range(2):
        assert "at 0001" in app.run("conversations", "create-tables")
    assert app.tables() == OURS
    assert app.execute("SELECT version FROM conversation_schema") == [migrations.HEAD]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_create_tables_in_a_schema(host):
    app = host(CONVERSATIONS_SCHEMA="chat")
    app.run("conversations", "create-tables")
    assert set(app.described(schema="chat")) == OURS


def test_both_doors(host):
    """What one door did, the other finds done."""
    app = host(users)
    app.migrate()
    app.run("conversations", "db", "upgrade")
    app.run("db", "upgrade")
    assert app.tables() == OURS | {"users"}
    app.run("db", "check")
    app.run("conversations", "db", "downgrade", "base", "--yes")
    app.run("db", "downgrade", "base")
    assert app.tables() == set()


def test_another_bind_without_flask_migrate(host, database):
    app = host(users, CONVERSATIONS_BIND_KEY="chat", SQLALCHEMY_BINDS={"chat": database.empty()})
    app.run("conversations", "db", "upgrade")
    assert app.tables("chat") == OURS
    assert app.tables() == set()
    assert STEP not in app.migrate()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_database_that_does_not_answer(host, tmp_path):
    app = host(url=f"sqlite:///{tmp_path}/no/such/folder.db")
    said = app.run("conversations", "db", "current", fails=True)
    assert "unable to open database file" in said


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_create_all_on_top_of_a_foreign_table_marks_nothing(host):
    """Not all of these tables are ours to vouch for. PostgreSQL refuses to refer to such a one anyway."""
    app = host()
    app.execute("CREATE TABLE conversations (id INTEGER PRIMARY KEY)")
    with app.app.app_context():
        app.db.create_all()
    assert app.execute("SELECT version FROM conversation_schema") == []
    assert "stamp" in app.run("db", "check", fails=True)


def test_columns_of_the_host_come_with_our_own_revision_too(host):
    app = host(users, options={"conversation_model": Department})
    app.migrate()
    revision = app.revisions()[0]
    app.run("db", "upgrade")
    app.run("db", "downgrade", "base")
    revision.unlink()
    app.run("conversations", "revision")
    assert "'department'" in app.revisions()[0].read_text()
