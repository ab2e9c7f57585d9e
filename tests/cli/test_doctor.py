"""`flask conversations doctor` names what is wrong around the conversations, says what to do, and prints no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import Conversations, migrations
from flask_conversations.identity import AnonymousIdentity, ChainIdentity, JWTIdentity, SessionIdentity
from flask_conversations.ops.database import pooler_advice

from ..infra.apps import SECRET
from .tools import run, spoil

KEY = "a key for tokens that nobody else has, 48 bytes long"
only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def examined(app: Any, *, code: int = 0) -> dict[str, tuple[str, str]]:
    """State and text of each check, by its name."""
    said = run(app, "doctor", "--json", code=code)
    assert SECRET not in said
    assert KEY not in said
    return {one["name"]: (one["state"], one["text"]) for one in json.loads(said)}


def state(app: Any, name: str, *, code: int = 0) -> str:
    return examined(app, code=code)[name][0]


@pytest.fixture
def apart(make_app, database) -> Any:
    """Makes an app on a database of its own, with tables that a test may spoil."""

    def make(*, tables: bool = True, **config: Any) -> Any:
        url = config.pop("url", None) or database.empty()
        app = make_app(tables=False, db=SQLAlchemy(), SQLALCHEMY_DATABASE_URI=url, **config)
        if tables:
            run(app, "create-tables")
        return app

    return make


def test_all_is_well(app):
    """A database that this release has made has nothing that FAILs; each line is one check."""
    found = examined(app)
    assert not [name for name, (state, _) in found.items() if state == "FAIL"]
    for name in (
        "database",
        "version",
        "migrations",
        "tables",
        "columns",
        "keys",
        "indexes",
        "SECRET_KEY",
        "CSRF",
        "cache",
    ):
        assert found[name][0] == "ok"
    said = run(app, "doctor").splitlines()
    assert len(said) == len(found)
    assert all(line.startswith(("ok    ", "warn  ")) for line in said)


def test_tables_that_were_never_made(apart):
    """The command to run is named: the one of the migrations that the app has."""
    found = examined(apart(tables=False), code=1)
    assert found["migrations"][0] == found["tables"][0] == "FAIL"
    assert "flask db upgrade" in found["tables"][1]


def test_tables_of_an_app_without_flask_migrate(database):
    from flask import Flask

    app = Flask("plain")
    app.config.update(TESTING=True, SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=database.empty())
    db = SQLAlchemy(app)
    Conversations(db, identity=lambda: None).init_app(app)
    assert "flask conversations db upgrade" in examined(app, code=1)["tables"][1]
    with app.app_context():
        db.engine.dispose()


def test_a_step_that_is_not_this_release_s(apart, subtests):
    """Older, newer or unknown: the line says which, and it is a failure."""
    app = apart()
    for step, says in ((None, "do not say"), ("0000", "needs"), ("9999", "newer release")):
        assert step != migrations.HEAD
        spoil(app, "DELETE FROM conversation_schema")
        if step:
            spoil(app, f"INSERT INTO conversation_schema (version) VALUES ('{step}')")
        with subtests.test(step=step):
            state, text = examined(app, code=1)["migrations"]
            assert (state, says in text) == ("FAIL", True)


SPOILT = [
    ("DROP INDEX ix_conversations_activity", "indexes", "warn"),
    ("DROP INDEX uq_conversation_messages_client_id", "keys", "FAIL"),
    ("ALTER TABLE conversations DROP COLUMN folder", "columns", "FAIL"),
    ("DROP TABLE conversation_query_log", "tables", "FAIL"),
]


def test_what_is_missing_is_named(apart, subtests):
    """An index that is missing is slow, a unique one or a column is wrong; the line names it."""
    app = apart()
    for statement, name, expected in SPOILT:
        spoil(app, statement)
        with subtests.test(statement):
            found, text = examined(app, code=1 if expected == "FAIL" else 0)[name]
            assert found == expected
            assert statement.split()[-1] in text


def test_a_database_that_does_not_answer(make_app, database, tmp_path):
    """The line says where it was looked for, and never with which password."""
    if database.name == "sqlite":
        url = f"sqlite:///{tmp_path}/no/such/folder.db"
    else:
        url = "postgresql+psycopg://ada:very-secret@127.0.0.1:1/chat"
    found = examined(make_app(tables=False, db=SQLAlchemy(), SQLALCHEMY_DATABASE_URI=url), code=1)
    assert found["database"][0] == "FAIL"
    assert "very-secret" not in str(found)
    assert ("folder.db" if database.name == "sqlite" else "127.0.0.1:1") in found["database"][1]


def test_a_bind_that_is_not_there(make_app):
    app = make_app(tables=False, CONVERSATIONS_BIND_KEY="chat", SQLALCHEMY_BINDS={})
    assert "SQLALCHEMY_BINDS" in examined(app, code=1)["database"][1]


@only_sqlite
def test_sqlite_that_makes_readers_wait(apart):
    """Without the write-ahead log, and with another patience than the settings say."""
    assert state(apart(CONVERSATIONS_SQLITE_WAL=False), "write-ahead log") == "warn"
    app = apart()
    with app.app_context():
        sa.event.listen(
            app.db.engine, "checkout", lambda connection, *rest: connection.execute("PRAGMA busy_timeout = 7")
        )
    state_, text = examined(app)["lock timeout"]
    assert (state_, "7 ms" in text) == ("warn", True)


@only_sqlite
def test_sqlite_in_memory(make_app):
    app = make_app(tables=False, db=SQLAlchemy(), SQLALCHEMY_DATABASE_URI="sqlite://")
    assert state(app, "file", code=1) == "warn"


OPTIONS = [
    ({"isolation_level": "SERIALIZABLE"}, "isolation", "warn"),
    ({"isolation_level": "AUTOCOMMIT"}, "isolation", "FAIL"),
    ({"connect_args": {"options": "-c default_transaction_read_only=on"}}, "writing", "FAIL"),
    ({"connect_args": {"options": "-c statement_timeout=2s"}}, "pool", "warn"),
    ({"pool_timeout": 1}, "pool", "warn"),
    ({"poolclass": sa.NullPool}, "pool", "ok"),
]


@only_postgresql
def test_settings_of_postgresql(apart, database, subtests):
    """What the host's engine options make unsafe or slow is named."""
    url = database.empty()
    for options, name, expected in OPTIONS:
        with subtests.test(name, options=options):
            app = apart(tables=False, url=url, SQLALCHEMY_ENGINE_OPTIONS=options)
            assert state(app, name, code=1) == expected


@only_postgresql
def test_a_role_that_may_not_write(apart, database):
    """The rights that are missing are named; a role with all of them, and no more, is as it should be."""
    app = apart()
    with app.app_context():
        url = app.db.engine.url.set(username="doctors_app")
    spoil(app, "DROP ROLE IF EXISTS doctors_app", "CREATE ROLE doctors_app LOGIN")
    try:
        spoil(app, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO doctors_app")
        his = apart(tables=False, url=url)
        found, text = examined(his, code=1)["privileges"]
        assert (found, "INSERT on conversations" in text) == ("FAIL", True)
        spoil(app, "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO doctors_app")
        assert state(his, "privileges") == "ok"
    finally:
        spoil(app, "DROP OWNED BY doctors_app", "DROP ROLE doctors_app")


@only_postgresql
def test_an_index_that_was_never_finished(apart):
    app = apart()
    spoil(app, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_conversations_updated'::regclass")
    assert "ix_conversations_updated" in examined(app)["index state"][1]


@pytest.mark.parametrize(
    ("told", "threshold", "expected"), [(7, 5, "ok"), (None, 5, "ok"), (8, 5, "warn"), (8, None, "ok")]
)
def test_a_pooler_in_between(told, threshold, expected):
    """PgBouncer answers a login with a process number of its own: then statements must not be prepared."""
    found = pooler_advice(told, 7, threshold)
    assert found.state == expected
    assert ("prepare_threshold" in found.text) is (expected == "warn")


def test_keys_and_cookies(make_app):
    """What lets others in is said, with the setting that keeps them out."""
    chain = ChainIdentity(JWTIdentity(), SessionIdentity(), AnonymousIdentity())
    app = make_app(
        options={"identity": chain},
        SECRET_KEY="dev",
        CONVERSATIONS_JWT_KEY="short",
        CONVERSATIONS_JWT_REQUIRED="iat",
        CONVERSATIONS_CSRF="host",
    )
    found = examined(app)
    for name in ("SECRET_KEY", "JWT key", "JWT audience", "JWT expiry", "CSRF", "cookies", "mode"):
        assert found[name][0] == "warn", name
    assert "JWTIdentity, SessionIdentity, AnonymousIdentity" in found["identity"][1]
    assert "guests" in found


def test_keys_and_cookies_as_they_should_be(make_app):
    chain = ChainIdentity(JWTIdentity(audience="chat"), AnonymousIdentity())
    app = make_app(options={"identity": chain}, CONVERSATIONS_JWT_KEY=KEY, SESSION_COOKIE_SECURE=True)
    found = examined(app)
    for name in ("SECRET_KEY", "JWT key", "JWT audience", "CSRF", "cookies"):
        assert found[name][0] == "ok", name


def test_weak_keys_fail_outside_testing(make_app):
    """Where nobody is testing, a key out of a tutorial is no warning."""
    assert state(make_app(TESTING=False, SECRET_KEY="secret"), "SECRET_KEY", code=1) == "FAIL"
    assert state(make_app(TESTING=False, SECRET_KEY=None), "SECRET_KEY") == "warn"
    same = make_app(options={"identity": JWTIdentity()}, CONVERSATIONS_JWT_KEY=SECRET)
    assert state(same, "JWT key") == "warn"


def test_nobody_checks_forged_requests(make_app):
    assert state(make_app(CONVERSATIONS_CSRF="exempt"), "CSRF") == "warn"
    app = make_app(CONVERSATIONS_CSRF="host")
    app.extensions["csrf"] = object()
    assert state(app, "CSRF") == "ok"
