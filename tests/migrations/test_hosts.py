"""`flask db migrate`, `upgrade`, `check`, `downgrade` and `--sql` of a host, before, with and after us."""

from __future__ import annotations

import sqlite3

import alembic.util
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_conversations import ConfigurationError, migrations
from flask_conversations.tables import ConversationMixin, Names

from .conftest import Host

OURS = {
    "conversations",
    "conversation_messages",
    "conversation_tags",
    "conversation_branches",
    "conversation_turns",
    "conversation_idempotency",
    "conversation_query_log",
    "conversation_schema",
}
STEP = "flask_conversations.migrations.upgrade(None, '0001')"
FULL_CONVENTION = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def users(db):
    class User(db.Model):
        __tablename__ = "users"
        id = db.Column(db.String(255), primary_key=True)


def messages(db):
    """A host with a `Message` and a `messages` of its own."""
    users(db)

    class Message(db.Model):
        __tablename__ = "messages"
        id = db.Column(db.Integer, primary_key=True)
        text = db.Column(db.Text, nullable=False)


def tickets(db):
    """A host that refers to our conversations, from which ours refer to its users."""
    users(db)

    class Ticket(db.Model):
        __tablename__ = "a_tickets"
        id = db.Column(db.Integer, primary_key=True)
        conversation_id = db.Column(db.ForeignKey("conversations.id"))


class Department:
    department: Mapped[str] = mapped_column(sa.String(40), index=True)
    agent_id: Mapped[str | None] = mapped_column(sa.ForeignKey("users.id"))
    code: Mapped[int | None] = mapped_column(unique=True)


class WithForeignKeys(sqlite3.Connection):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA foreign_keys = ON")


class Agent:
    agent_id: Mapped[str | None] = mapped_column(sa.ForeignKey("users.id", name="fk_agent"))


A_CONVERSATION = (
    "INSERT INTO conversations (id, title_source, status, starred, temporary, version, rev, last_seq, "
    "message_count, checksum, branched, branch, created_at, updated_at, last_activity_at, org_id, user_id) VALUES "
    "('00000000000000000000000000000001', 'user', 'active', false, false, 1, 1, 0, 0, 0, false, 'main', '2026-11-21 10:00:00', "
    "'2026-11-21 10:00:00', '2026-11-21 10:00:00', '', 'ada')"
)
A_TAG = (
    "INSERT INTO conversation_tags (user_id, org_id, tag, conversation_id) "
    "VALUES ('ada', '', 'red', '00000000000000000000000000000001')"
)


def test_from_nothing(host):
    """`flask db migrate` writes our step by itself, and everything is clean afterwards."""
    app = host(users)

    written = app.migrate()
    assert written.count(STEP) == 1
    assert "flask_conversations.migrations.downgrade('0001', None)" in written
    assert "import flask_conversations.migrations" in written
    assert "'conversation" not in written.replace(STEP, "")
    app.run("db", "upgrade")

    assert app.tables() == OURS | {"users"}
    app.run("db", "check")
    assert app.migrate() == ""


def test_check_says_that_a_step_is_due(host):
    app = host()
    app.run("db", "upgrade")
    assert "('flask_conversations', None, '0001')" in app.run("db", "check", fails=True)


@pytest.mark.skipif(not hasattr(alembic.util, "DispatchPriority"), reason="Alembic before 1.18 says it all the same")
def test_nothing_is_said_of_our_tables(host):
    """Alembic announces neither our tables nor our indexes, only that a step is due."""
    app = host()
    said = app.run("db", "migrate")
    assert "conversation_messages" not in said


def test_a_downgrade_leaves_nothing_of_ours(host):
    app = host(users)
    app.migrate()
    app.run("db", "upgrade")
    app.run("db", "downgrade", "base")
    assert app.tables() == set()
    app.run("db", "upgrade")
    assert app.tables() == OURS | {"users"}


def test_an_old_host_with_rows_takes_us_in(host):
    """Revisions, rows and models of the host stay as they are; going back removes only us."""
    before = host(messages, installed=False)
    before.migrate()
    before.run("db", "upgrade")
    before.execute("INSERT INTO messages (id, text) VALUES (1, 'hello')")

    after = before.evolve(messages)
    written = after.migrate()
    after.run("db", "upgrade")
    assert "messages'" not in written.replace("conversation_messages'", "")
    assert after.tables() == OURS | {"users", "messages"}
    assert after.execute("SELECT text FROM messages") == ["hello"]
    after.run("db", "check")

    after.run("db", "downgrade")
    assert after.tables() == {"users", "messages"}
    assert after.execute("SELECT text FROM messages") == ["hello"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("migrate_first", [True, False])
def test_the_order_of_init_app_does_not_matter(host, migrate_first):
    app = host(users, migrate_first=migrate_first)
    assert STEP in app.migrate()
    app.run("db", "upgrade")
    assert app.migrate() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        {"render_as_batch": False},
        {"compare_type": False},
        {"compare_server_default": True},
        {"include_object": lambda item, name, kind, reflected, to: name != "legacy"},
        {"include_schemas": True},
        {"user_module_prefix": "x."},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_any_arguments_of_flask_migrate(host, arguments):
    app = host(users, migrate_options=arguments)
    app.execute("CREATE TABLE legacy (id INTEGER)")
    written = app.migrate()
    assert STEP in written
    assert ("legacy" in written) is ("include_object" not in arguments)
    app.run("db", "upgrade")
    assert app.migrate() == ""


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_env_py_with_include_object(host):
    """Hosts pass their own `include_object` in env.py beside Flask-Migrate's arguments."""
    app = host(users)
    env = app.folder / "migrations" / "env.py"
    patched = env.read_text().replace(
        "            **conf_args", "            include_object=lambda *a: True, **conf_args"
    )
    assert patched != env.read_text()
    env.write_text(patched)
    assert STEP in app.migrate()
    app.run("db", "upgrade")
    assert app.migrate() == ""


@pytest.mark.parametrize("convention", [FULL_CONVENTION, {"pk": "pk_%(table_name)s"}], ids=["full", "partial"])
def test_naming_conventions(host, convention):
    db = SQLAlchemy(metadata=sa.MetaData(naming_convention=convention))
    app = host(users, db=db)
    app.migrate()
    app.run("db", "upgrade")
    assert app.migrate() == ""
    assert "ix_conversations_activity" in [index["name"] for index in app.described()["conversations"]["indexes"]]


def test_a_prefix(host):
    def conversations_of_its_own(db):
        class Conversation(db.Model):
            __tablename__ = "conversations"
            id = db.Column(db.Integer, primary_key=True)

    app = host(conversations_of_its_own, CONVERSATIONS_TABLE_PREFIX="chat_")
    assert STEP in app.migrate()
    app.run("db", "upgrade")
    assert app.tables() == {f"chat_{name}" for name in OURS} | {"conversations"}
    assert app.migrate() == ""


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("include_schemas", [True, False])
def test_a_schema(host, include_schemas):
    """The schema is made if it is missing, and is not removed: it may hold other things."""
    app = host(users, CONVERSATIONS_SCHEMA="chat", migrate_options={"include_schemas": include_schemas})
    app.migrate()
    app.run("db", "upgrade")
    assert set(app.described(schema="chat")) == OURS
    assert app.tables() == {"users"}
    assert app.migrate() == ""
    app.run("db", "downgrade")
    assert app.described(schema="chat") == {}


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_default_schema_by_its_name(host):
    app = host(users, CONVERSATIONS_SCHEMA="public")
    app.migrate()
    app.run("db", "upgrade")
    assert app.tables() == OURS | {"users"}
    assert app.migrate() == ""


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_metadata_with_a_schema(host):
    """All tables of such a host live there, ours and what ours refer to included."""
    app = host(
        users,
        db=SQLAlchemy(metadata=sa.MetaData(schema="app")),
        migrate_options={"include_schemas": True},
        options={"user_foreign_key": "users.id"},
    )
    app.execute("CREATE SCHEMA app")
    app.migrate()
    app.run("db", "upgrade")
    assert set(app.described(schema="app")) == OURS | {"users"}
    assert app.migrate() == ""


def test_another_bind(host, database):
    """With the multidb template, our step goes into the functions of our bind, and nowhere else."""
    app = host(users, multidb=True, CONVERSATIONS_BIND_KEY="chat", SQLALCHEMY_BINDS={"chat": database.empty()})
    written = app.migrate()
    assert written.count(STEP) == 1
    app.run("db", "upgrade")
    assert app.tables() == {"users"}
    assert app.tables("chat") == OURS
    assert app.migrate() == ""
    app.run("db", "downgrade")
    assert app.tables("chat") == set()


def test_the_step_comes_after_what_we_need_and_before_what_needs_us(host):
    app = host(tickets, options={"user_foreign_key": "users.id"})
    written = app.migrate()
    app.run("db", "upgrade")
    assert written.index("'users'") < written.index(STEP) < written.index("'a_tickets'")
    assert app.described()["conversations"]["foreign keys"][0]["name"] == "fk_conversations_user"
    assert app.migrate() == ""
    app.run("db", "downgrade")
    assert app.tables() == set()


def test_a_foreign_key_to_users_that_is_wanted_later(host):
    """The keys to the host's own tables are the host's: its migrations add and remove them."""
    before = host(users)
    before.migrate()
    before.run("db", "upgrade")
    after = before.evolve(users, options={"user_foreign_key": "users.id"})
    assert "fk_conversations_user" in after.migrate()
    after.run("db", "upgrade")
    assert after.migrate() == ""
    assert [key["name"] for key in after.described()["conversations"]["foreign keys"]] == ["fk_conversations_user"]


def test_columns_of_the_host_come_with_the_step(host):
    """One `flask db migrate` is enough, required columns, indexes and nameless constraints included."""
    app = host(users, options={"conversation_model": Department})
    written = app.migrate()
    assert written.index(STEP) < written.index("'department'")
    app.run("db", "upgrade")
    table = app.described()["conversations"]
    assert {"department", "agent_id", "code"} < {column["name"] for column in table["columns"]}
    assert app.migrate() == ""
    app.run("db", "downgrade")
    assert app.tables() == set()


def test_our_part_of_a_table_survives_the_hosts_columns(host, database):
    """SQLite makes the table anew for them, and must lose nothing of ours on the way."""
    with_columns = host(users, options={"conversation_model": Department})
    with_columns.migrate()
    with_columns.run("db", "upgrade")
    plain = Host(with_columns.folder, database.empty())
    plain.run("conversations", "db", "upgrade")

    for part in ("columns", "indexes", "uniques"):
        found = with_columns.described()["conversations"][part]
        assert all(one in found for one in plain.described()["conversations"][part]), part
    plain.close()


def test_columns_of_the_host_come_later(host):
    class Note:
        note: Mapped[str | None] = mapped_column(sa.Text)

    before = host(users)
    before.migrate()
    before.run("db", "upgrade")
    after = before.evolve(users, options={"conversation_model": Note})
    written = after.migrate()
    assert "add_column(sa.Column('note'" in written
    assert "flask_conversations" not in written
    after.run("db", "upgrade")
    assert after.migrate() == ""

    gone = after.evolve(users)
    assert "drop_column('note')" in gone.migrate()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_change_that_would_delete_the_messages_is_refused(host):
    """SQLite with foreign keys on empties what refers to a table that Alembic makes anew."""
    with_keys = {"SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"factory": WithForeignKeys}}}
    before = host(users, **with_keys)
    before.migrate()
    before.run("db", "upgrade")
    before.execute(A_CONVERSATION)
    before.execute(A_TAG)

    after = before.evolve(users, options={"conversation_model": Agent}, **with_keys)
    after.migrate()
    assert "PRAGMA foreign_keys=OFF" in after.run("db", "upgrade", fails=True)
    assert after.execute("SELECT tag FROM conversation_tags") == ["red"]

    (revision,) = [file for file in after.revisions() if "agent_id" in file.read_text()]
    text = revision.read_text()
    revision.write_text(text.replace("upgrade():", "upgrade():\n    op.execute('PRAGMA foreign_keys=OFF')", 1))
    after.run("db", "upgrade")
    assert after.execute("SELECT tag FROM conversation_tags") == ["red"]


def test_a_substitute_mapped_by_the_host(host):
    def declare(db):
        users(db)

        class Conversation(ConversationMixin, db.Model):
            __names__ = Names()
            department = db.Column(db.String(40))

        return {"conversation_model": Conversation}

    app = host(declare)
    written = app.migrate()
    assert STEP in written
    assert "'department'" in written
    app.run("db", "upgrade")
    assert app.migrate() == ""


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_substitute_under_another_name_is_refused(host):
    """Our steps would make a table that the model does not use."""

    def declare(db):
        class Conversation(ConversationMixin, db.Model):
            __names__ = Names()
            __tablename__ = "chats"

        return {"conversation_model": Conversation}

    with pytest.raises(ConfigurationError, match="'chats'"):
        host(declare)


def test_create_all_hosts_need_no_step(host):
    """Tables made by `create_all` know where they stand, so that a later Flask-Migrate has nothing to do."""
    app = host(users)
    with app.app.app_context():
        app.db.create_all()
        app.db.create_all()
    assert app.execute("SELECT version FROM conversation_schema") == [migrations.HEAD]
    app.run("db", "upgrade")
    assert app.migrate() == ""
    app.run("db", "check")


def test_sql(host):
    """`--sql` prints the whole way without a database, the version row included."""
    app = host(users, options={"user_foreign_key": "users.id"})
    app.migrate()
    up = app.run("db", "upgrade", "--sql")
    assert "CREATE TABLE IF NOT EXISTS conversation_messages" in up
    assert "INSERT INTO conversation_schema (version) VALUES ('0001')" in up
    assert app.tables() == set()
    down = app.run("db", "downgrade", "--sql", "head:base")
    assert "DROP TABLE conversation_messages" in down
    assert "DROP TABLE IF EXISTS conversation_schema" in down


def test_the_printed_sql_makes_the_tables(host):
    app = host(users)
    app.migrate()
    printed = app.run("db", "upgrade", "--sql")
    app.execute("DROP TABLE alembic_version")
    lines = [line for line in printed.splitlines() if not line.startswith(("BEGIN", "COMMIT", "--"))]
    for statement in filter(None, map(str.strip, "\n".join(lines).split(";\n"))):
        app.execute(statement)
    assert app.tables() == OURS | {"users"}
    assert app.migrate() == ""


def test_a_revision_that_fails_can_be_repeated(host):
    """Whatever fails after our step takes it back, on SQLite too."""
    app = host(users)
    app.migrate()
    revision = app.revisions()[0]
    text = revision.read_text()
    revision.write_text(text.replace(STEP, STEP + "\n    raise RuntimeError('of the host')"))
    app.run("db", "upgrade", fails=True)
    assert app.tables() <= {"conversation_schema", "users"}
    app.execute("DROP TABLE IF EXISTS users")
    revision.write_text(text)
    app.run("db", "upgrade")
    assert app.tables() == OURS | {"users"}


def test_tables_that_do_not_say_where_they_stand(host):
    """Nothing is guessed: neither that they are ours, nor which step they have."""
    app = host()
    app.execute("CREATE TABLE conversations (id INTEGER)")
    said = app.run("db", "migrate", fails=True)
    assert "flask conversations db stamp 0001" in said
    assert "CONVERSATIONS_TABLE_PREFIX" in said


def test_tables_of_a_newer_release(host):
    app = host()
    app.migrate()
    app.run("db", "upgrade")
    app.execute("UPDATE conversation_schema SET version = '9999'")
    assert "'9999'" in app.run("db", "check", fails=True)
    app.run("db", "downgrade", fails=True)
    assert app.tables() == OURS


def test_apps_that_share_one_db_under_different_prefixes(host):
    """Each app migrates its own tables, although all of them are on one metadata."""
    db = SQLAlchemy()
    app = host(users, db=db)
    other = Host(app.folder, app.url, db=db, CONVERSATIONS_TABLE_PREFIX="other_")
    app.migrate()
    app.run("db", "upgrade")
    assert app.tables() == OURS | {"users"}
    assert app.migrate() == ""
    for revision in app.revisions():
        revision.unlink()
    app.execute("DROP TABLE alembic_version")
    assert STEP in other.migrate()
    other.run("db", "upgrade")
    assert other.tables() == OURS | {"users"} | {f"other_{name}" for name in OURS}
    other.close()
