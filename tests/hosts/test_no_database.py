"""Hosts without SQLAlchemy: `Conversations()` brings its own database."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_conversations import Conversations, StorageUnavailable

from .works import dispose, who, works


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """Makes apps that know nothing of databases, with an instance folder of their own."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    made = []

    def make(**config):
        app = Flask("bare", instance_path=str(tmp_path / "instance"))
        app.config.update(TESTING=True, SECRET_KEY="x" * 32, **config)
        made.append(app)
        return app

    yield make
    for app in made:
        if "sqlalchemy" in app.extensions:
            dispose(app, app.extensions["sqlalchemy"])


def create_tables(app):
    """What an operator runs."""
    result = app.test_cli_runner().invoke(args=["conversations", "create-tables"])
    assert result.exit_code == 0, result.output


def test_sqlite_in_the_instance_folder(bare, tmp_path):
    """With no db and no setting, the conversations are a SQLite file in the instance folder, made by create-tables."""
    app = bare()
    conversations = Conversations(app=app, identity=who)
    with pytest.raises(StorageUnavailable, match="create-tables"):
        conversations.as_user("ada").list_conversations()
    create_tables(app)
    create_tables(app)
    works(app, conversations)
    assert [path.name for path in (tmp_path / "instance").glob("*.sqlite3")] == ["conversations.sqlite3"]


def test_they_survive_a_restart(bare):
    """A new process with the same instance folder finds the conversations."""
    first = bare()
    conversations = Conversations(app=first, identity=who)
    create_tables(first)
    chat = conversations.as_user("ada").create_conversation("kept")
    second = bare()
    assert Conversations(app=second, identity=who).as_user("ada").get_conversation(chat["id"]) == chat


def test_a_url_in_the_settings(bare, database):
    """CONVERSATIONS_DATABASE_URL names the database, on both kinds."""
    app = bare(CONVERSATIONS_DATABASE_URL=database.empty())
    conversations = Conversations(app=app, identity=who)
    create_tables(app)
    works(app, conversations)


@pytest.mark.parametrize("scheme", ["postgresql://", "postgres://"])
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_usual_database_url(bare, database, monkeypatch, scheme):
    """DATABASE_URL, as hosting companies write it, is understood."""
    url = database.empty().replace("postgresql+psycopg://", scheme)
    monkeypatch.setenv("DATABASE_URL", url)
    app = bare()
    conversations = Conversations(app=app, identity=who)
    create_tables(app)
    works(app, conversations)
    with app.app_context():
        assert conversations.db.engine.driver == "psycopg"


def test_the_factory_pattern_without_a_database(bare):
    """Conversations() at import and init_app in the factory work as well."""
    conversations = Conversations(identity=who)
    app = bare()
    conversations.init_app(app)
    create_tables(app)
    works(app, conversations)


def test_several_apps_without_a_database(bare, database):
    """Two apps that share one extension object can have a database each."""
    conversations = Conversations(identity=who)
    first, second = bare(), bare(CONVERSATIONS_DATABASE_URL=database.empty())
    for app in (first, second):
        conversations.init_app(app)
        create_tables(app)
    works(first, conversations)
    works(second, conversations)


def test_session_options_reach_the_session(bare):
    """session_options are those of Flask-SQLAlchemy."""
    app = bare()
    conversations = Conversations(app=app, identity=who, session_options={"expire_on_commit": False})
    create_tables(app)
    with app.app_context():
        assert conversations.db.session().expire_on_commit is False
    works(app, conversations)
