"""Setting the extension up: orders, factories, several apps, and the mistakes one can make."""

from __future__ import annotations

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import (
    ConfigurationError,
    Conversations,
    IdentityRequired,
    NotFound,
    current_conversations,
    current_identity,
)

from .works import create_all, who, works

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what is decided before any SQL: once is enough."""


def test_an_app_factory(host):
    """The usual pattern: objects at import, init_app in the factory."""
    db = SQLAlchemy()
    conversations = Conversations(db, identity=who)
    app = host()
    db.init_app(app)
    conversations.init_app(app)
    create_all(app, db)
    works(app, conversations)


def test_a_global_app(host):
    """Everything in one go, on a module's app."""
    app = host()
    db = SQLAlchemy(app)
    conversations = Conversations(db, app=app, identity=who)
    create_all(app, db)
    works(app, conversations)


def test_we_may_come_before_the_database(host):
    """init_app works before db.init_app, and the other way round."""
    db = SQLAlchemy()
    conversations = Conversations(db, identity=who)
    app = host()
    conversations.init_app(app)
    db.init_app(app)
    create_all(app, db)
    works(app, conversations)


def test_the_database_can_come_with_init_app(host):
    """Without db in the constructor, init_app takes it, or finds the app's own."""
    for given in (True, False):
        app, db = host(), SQLAlchemy()
        db.init_app(app)
        conversations = Conversations(identity=who)
        conversations.init_app(app, db if given else None)
        assert conversations.db is db
        create_all(app, db)
        works(app, conversations)


@on_sqlite
def test_options_can_come_with_init_app(host):
    """What init_app is given counts for that app, and more than the constructor's."""
    db = SQLAlchemy()
    conversations = Conversations(db, identity=lambda: "nobody", url_prefix="/nowhere")
    app = host()
    db.init_app(app)
    conversations.init_app(app, identity=who, url_prefix="/chat/v1", resource="threads")
    create_all(app, db)
    works(app, conversations, "/chat/v1/threads")


@on_sqlite
def test_the_identity_can_be_decorated(host):
    """@conversations.identity_loader works before and after init_app."""
    for late in (False, True):
        db = SQLAlchemy()
        conversations = Conversations(db, identity=None if not late else lambda: "nobody")
        app = host()
        db.init_app(app)
        if late:
            conversations.init_app(app)
            assert conversations.identity_loader(who) is who
        else:
            conversations.identity_loader(who)
            conversations.init_app(app)
        create_all(app, db)
        works(app, conversations)


def test_several_apps_share_one_extension(database, host):
    """Two apps on two databases with one extension object do not see each other's conversations."""
    db = SQLAlchemy()
    conversations = Conversations(db, identity=who)
    first, second = host(), host(database.empty(), CONVERSATIONS_URL_PREFIX="/v2")
    for app in (first, second):
        db.init_app(app)
        conversations.init_app(app)
        create_all(app, db)
    works(first, conversations)
    assert conversations.as_user("ada", app=second).list_conversations()["conversations"] == []
    works(second, conversations, "/v2/conversations")
    assert len(conversations.as_user("ada", app=first).list_conversations()["conversations"]) == 1


def test_several_extensions_share_one_database(host):
    """Two apps with an extension object each, on one db and database, see the same conversations."""
    db = SQLAlchemy()
    apps = []
    for _ in range(2):
        app = host()
        db.init_app(app)
        apps.append((app, Conversations(db, app=app, identity=who)))
    create_all(apps[0][0], db)
    chat = apps[0][1].as_user("ada", app=apps[0][0]).create_conversation()
    assert apps[1][1].as_user("ada", app=apps[1][0]).get_conversation(chat["id"]) == chat
    works(apps[1][0], apps[1][1])


@on_sqlite
def test_setting_up_twice_is_an_error(host):
    """A second init_app on the same app is refused."""
    db = SQLAlchemy()
    app = host()
    db.init_app(app)
    conversations = Conversations(db, app=app, identity=who)
    for again in (conversations, Conversations(db, identity=who)):
        with pytest.raises(ConfigurationError, match="once"):
            again.init_app(app)


@on_sqlite
def test_without_an_identity_nothing_starts(host):
    """There is no default user: set-up fails and says how to name one."""
    with pytest.raises(ConfigurationError, match=r"identity_loader|CONVERSATIONS_IDENTITY"):
        Conversations(SQLAlchemy(), app=host())


@on_sqlite
def test_a_database_that_the_app_does_not_know(host):
    """Without db.init_app the first call, and the first request, fail with what to do."""
    conversations = Conversations(SQLAlchemy(), identity=who)
    app = host()
    conversations.init_app(app)
    with pytest.raises(ConfigurationError, match=r"db\.init_app\(app\)"):
        conversations.as_user("ada", app=app).list_conversations()
    answer = app.test_client().get("/api/conversations", headers={"X-Test-User": "ada"})
    assert (answer.status_code, answer.mimetype) == (500, "application/problem+json")


@on_sqlite
def test_another_database_than_the_apps(host):
    """An app with another SQLAlchemy() than the extension's gets an error that says so."""
    conversations = Conversations(SQLAlchemy(), identity=who)
    app = host()
    SQLAlchemy(app)
    conversations.init_app(app)
    with pytest.raises(ConfigurationError, match="does not know"):
        conversations.as_user("ada", app=app).list_conversations()


@on_sqlite
def test_before_init_app_there_is_nothing(host):
    """What needs an app says so."""
    with pytest.raises(ConfigurationError, match="init_app"):
        _ = Conversations(identity=who).db
    with pytest.raises(ConfigurationError, match="init_app"):
        _ = Conversations(identity=who).models
    assert Conversations(SQLAlchemy(), identity=who).models.Conversation.__tablename__ == "conversations"
    app = host()
    with app.app_context(), pytest.raises(RuntimeError, match="init_app"):
        current_conversations.list_conversations()


@on_sqlite
def test_outside_a_context(host):
    """current_conversations and a service without app= say what is missing."""
    with pytest.raises(RuntimeError, match="application context"):
        current_conversations.list_conversations()
    db = SQLAlchemy()
    conversations = Conversations(db, identity=who)
    for _ in range(2):
        app = host()
        db.init_app(app)
        conversations.init_app(app)
    with pytest.raises(RuntimeError, match="app"):
        conversations.as_user("ada").list_conversations()


@on_sqlite
def test_one_app_needs_no_context(host):
    """Where the extension knows one app only, as_user uses it."""
    app = host()
    db = SQLAlchemy(app)
    conversations = Conversations(db, app=app, identity=who)
    create_all(app, db)
    assert conversations.as_user("ada").create_conversation()["user_id"] == "ada"


@on_sqlite
def test_current_conversations_needs_an_identity(host):
    """Outside a request, and in one of a stranger, current_conversations raises IdentityRequired."""
    app = host()
    db = SQLAlchemy(app)
    Conversations(db, app=app, identity=who)
    create_all(app, db)

    @app.get("/mine")
    def mine():
        return current_conversations.list_conversations() | {"who": current_identity.user_id}

    with app.app_context():
        for proxy in (current_conversations, current_identity):
            with pytest.raises(IdentityRequired):
                _ = proxy.user_id
    client = app.test_client()
    assert client.get("/mine").status_code == 401
    assert client.get("/mine", headers={"X-Test-User": "ada"}).get_json()["who"] == "ada"


@on_sqlite
def test_errors_in_a_hosts_own_route_become_answers(host):
    """NotFound in a view of the host is a 404, a refused value a 422, as problem documents."""
    app = host()
    db = SQLAlchemy(app)
    conversations = Conversations(db, app=app, identity=who)
    create_all(app, db)

    @app.get("/read/<conversation_id>")
    @conversations.require_identity
    def read(conversation_id):
        return current_conversations.get_messages(conversation_id, limit=app.config.get("LIMIT", 50))

    client, ada = app.test_client(), {"X-Test-User": "ada"}
    chat = conversations.as_user("ada", app=app).create_conversation()
    assert client.get(f"/read/{chat['id']}").status_code == 401
    assert client.get(f"/read/{chat['id']}", headers=ada).status_code == 200
    missing = client.get(f"/read/{chat['id']}", headers={"X-Test-User": "bob"})
    assert (missing.status_code, missing.mimetype) == (404, "application/problem+json")
    app.config["LIMIT"] = "many"
    refused = client.get(f"/read/{chat['id']}", headers=ada).get_json()
    assert (refused["status"], list(refused["errors"])) == (422, ["limit"])


@on_sqlite
def test_two_requests_two_users_one_context(host):
    """An app context that outlives a request does not carry its user into the next one."""
    app = host()
    db = SQLAlchemy(app)
    conversations = Conversations(db, app=app, identity=who)
    create_all(app, db)
    with app.app_context():
        client = app.test_client()
        client.post("/api/conversations", json={"title": "secret"}, headers={"X-Test-User": "ada"})
        assert client.get("/api/conversations", headers={"X-Test-User": "bob"}).get_json()["conversations"] == []
    assert len(conversations.as_user("ada").list_conversations()["conversations"]) == 1


@on_sqlite
def test_a_host_route_with_our_address_is_a_start_up_error(host):
    """Where a host already answers one of our addresses, set-up says so instead of hiding one of the two."""
    app = host()

    @app.get("/api/conversations")
    def mine():
        return "mine"

    with pytest.raises(ConfigurationError, match="/api/conversations"):
        Conversations(SQLAlchemy(app), app=app, identity=who)
    other = host()
    other.add_url_rule("/api/conversations", view_func=mine)
    Conversations(SQLAlchemy(other), app=other, identity=who, register_blueprint=False)


@on_sqlite
def test_an_unknown_option_is_refused(host, subtests):
    """A mistyped option is an error at once, which names what was probably meant."""
    suggestions = {"identiy": "identity", "table_prefx": "table_prefix", "url_prefx": "url_prefix", "zzz": None}
    for option, suggestion in suggestions.items():
        for call in (
            lambda: Conversations(SQLAlchemy(), **{option: 1}),  # noqa: B023 - called at once
            lambda: Conversations(SQLAlchemy(), identity=who).init_app(host(), **{option: 1}),  # noqa: B023
        ):
            with subtests.test(option):
                with pytest.raises(ConfigurationError, match=option) as refused:
                    call()
                assert suggestion is None or suggestion in str(refused.value)


@on_sqlite
def test_an_unsupported_database_is_named(host, monkeypatch):
    """On another database than PostgreSQL and SQLite the first call says what is supported."""
    app = host()
    db = SQLAlchemy(app)
    conversations = Conversations(db, app=app, identity=who)
    with app.app_context():
        monkeypatch.setattr(db.engine.dialect, "name", "oracle")
    with pytest.raises(ConfigurationError, match="oracle is not supported: use PostgreSQL"):
        conversations.as_user("ada", app=app).list_conversations()


@on_sqlite
def test_guards_titlers_and_counters_by_import_path(host):
    """Hooks can be named in the settings; a path that leads nowhere is an error that names it."""
    app = host(CONVERSATIONS_TITLER="os.path:basename", CONVERSATIONS_TOKEN_COUNTER="builtins:len")
    db = SQLAlchemy(app)
    conversations = Conversations(db, app=app, identity=who)
    create_all(app, db)
    ada = conversations.as_user("ada", app=app)
    chat = ada.create_conversation(messages=[{"role": "user", "content": "a/b"}])
    assert ada.get_conversation(chat["id"])["title"] == "b"
    wrong = host(CONVERSATIONS_TITLER="no.such:thing")
    with pytest.raises(ConfigurationError, match=r"no\.such"):
        Conversations(SQLAlchemy(wrong), app=wrong, identity=who).as_user("ada").list_conversations()


@on_sqlite
def test_a_missing_conversation_is_not_found_without_a_request(host):
    """Errors are the same inside and outside requests."""
    app = host()
    db = SQLAlchemy(app)
    conversations = Conversations(db, app=app, identity=who)
    create_all(app, db)
    with app.app_context(), pytest.raises(NotFound):
        conversations.as_user("ada").get_conversation("missing")


def test_after_a_request_no_connection_is_open(host):
    """Views that use current_conversations give everything back at the end of the request, also after an error."""
    app = host()
    db = SQLAlchemy(app)
    Conversations(db, app=app, identity=who)
    create_all(app, db)

    @app.post("/chat")
    def chat():
        made = current_conversations.create_conversation()
        db.session.execute(db.text("SELECT 1"))
        current_conversations.get_conversation("missing")
        return made

    assert app.test_client().post("/chat", headers={"X-Test-User": "ada"}).status_code == 404
    with app.app_context():
        assert db.engine.pool.checkedout() == 0


def test_the_name_of_the_extension():
    """The extension stands where Flask extensions stand."""
    app = Flask("host")
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", TESTING=True)
    Conversations(SQLAlchemy(app), app=app, identity=who)
    assert "flask_conversations" in app.extensions
    assert "flask_conversations" in app.blueprints
