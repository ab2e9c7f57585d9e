"""ConversationsClient: the test client for host apps, whatever login they have."""

from __future__ import annotations

import pytest
from flask import session
from flask_login import LoginManager, UserMixin, login_user

from flask_conversations import current_conversations, current_identity
from flask_conversations.identity import (
    AnonymousIdentity,
    ChainIdentity,
    FlaskLoginIdentity,
    HeaderIdentity,
    Identity,
    JWTIdentity,
    SessionIdentity,
)
from flask_conversations.identity.resolving import ACTING_IDENTITY
from flask_conversations.testing import ConversationsClient
from tests.infra.apps import SECRET

HOSTS = {
    "jwt": (JWTIdentity, {"CONVERSATIONS_JWT_KEY": SECRET}),
    "session": (SessionIdentity, {}),
    "flask-login": (FlaskLoginIdentity, {}),
    "guests": (AnonymousIdentity, {}),
    "proxy": (HeaderIdentity, {"CONVERSATIONS_TRUSTED_PROXIES": "10.0.0.1"}),
    "chain": (lambda: ChainIdentity(JWTIdentity(), SessionIdentity()), {"CONVERSATIONS_JWT_KEY": SECRET}),
    "own": (lambda: lambda: None, {}),
}


@pytest.fixture(params=HOSTS)
def host(request, make_app):
    """An app with a chat route of its own, behind each kind of login."""
    resolver, config = HOSTS[request.param]
    app = make_app(options={"identity": resolver()}, **config)
    if request.param == "flask-login":
        with_flask_login(app)

    @app.post("/chat")
    @app.conversations.require_identity
    def chat():
        return {"conversation": current_conversations.create_conversation("from the host")["id"]}

    return app


def with_flask_login(app):
    class User(UserMixin):
        def __init__(self, id):
            self.id = id

    manager = LoginManager(app)
    manager.user_loader(User)

    @app.post("/login/<name>")
    def login(name):
        login_user(User(name))
        return "in"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_it_is_that_user(host):
    """In our routes and in the host's, with nothing but a name."""
    ada, bob = ConversationsClient(host, "ada"), ConversationsClient(host, user="bob")
    made = ada.post("/api/conversations", json={"title": "hers"}).get_json()["id"]
    also = ada.post("/chat").get_json()["conversation"]
    assert ada.get(f"/api/conversations/{made}").get_json()["user_id"] == "ada"
    assert {one["id"] for one in ada.get("/api/conversations").get_json()["conversations"]} == {made, also}
    assert bob.get(f"/api/conversations/{made}").status_code == 404
    assert bob.get("/api/conversations").get_json()["conversations"] == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_it_needs_no_csrf_token(host):
    """Not even with the cookies of another login in its jar."""
    ada = ConversationsClient(host)
    ada.set_cookie("session", "x")
    answer = ada.post("/api/conversations", json={"title": "x"}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 201
    assert ada.delete(f"/api/conversations/{answer.get_json()['id']}").status_code == 200


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_nobody(host):
    """A client without user is refused, also where the resolver would have made up a guest."""
    assert ConversationsClient(host, None).get("/api/conversations").status_code == 401
    assert ConversationsClient(host, user=None).post("/chat").status_code == 401


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_organisation(host):
    """The same name in another organisation is another user."""
    made = ConversationsClient(host, "ada", "acme").post("/api/conversations", json={}).get_json()
    assert made["org_id"] == "acme"
    assert ConversationsClient(host, "ada", org="other").get(f"/api/conversations/{made['id']}").status_code == 404


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_identity_of_ones_own_making(host):
    """With scopes and claims, a guest too."""
    seen = []
    host.before_request(lambda: seen.append(current_identity._get_current_object()))
    guest = Identity("guest:1", anonymous=True, scopes=frozenset({"chat"}))
    ConversationsClient(host, guest).get("/api/conversations")
    assert seen == [guest]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_service_beside_it(host):
    """To arrange a test and to look afterwards, without a context."""
    ada = ConversationsClient(host, "ada")
    chat = ada.service.create_conversation("arranged")
    ada.post(f"/api/conversations/{chat['id']}/messages", json={"content": "hello"})
    assert [one["content"] for one in ada.service.get_conversation_history(chat["id"])] == ["hello"]
    with pytest.raises(ValueError, match="with a user"):
        _ = ConversationsClient(host, None).service


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_unsafe_user_is_refused(app):
    """As anywhere else: no blank names, no control characters."""
    for user in ("", " ", "a\nb"):
        with pytest.raises(ValueError, match="user_id"):
            ConversationsClient(app, user)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_everything_else_is_flasks_client(make_app):
    """Sessions, cookies, the preserved context, other clients beside it."""
    app = make_app(options={"identity": SessionIdentity()})

    @app.get("/who")
    def who():
        return {"session": session.get("user_id"), "us": current_identity.user_id}

    ada = ConversationsClient(app, "ada")
    with ada.session_transaction() as stored:
        stored["user_id"] = "bob"
    with ada:
        assert ada.get("/who").get_json() == {"session": "bob", "us": "ada"}
        assert current_identity.user_id == "ada"
    plain = app.test_client()
    assert plain.get("/api/conversations").status_code == 401


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_no_request_can_pretend(app):
    """No header becomes that key, and a text under it, from a strange server, names no user."""
    client = app.test_client()
    for name in (ACTING_IDENTITY, "flask_conversations", "HTTP_FLASK_CONVERSATIONS"):
        for header in {name, name.replace(".", "-").replace("_", "-"), name.replace(".", "_"), name.upper()}:
            assert client.get("/api/conversations", headers={header: "ada"}).status_code == 401, header
    assert client.get("/api/conversations", environ_overrides={ACTING_IDENTITY: "ada"}).status_code == 401


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_flask_login_stays_the_hosts_own(make_app):
    """The host's `login_required` looks at Flask-Login, so that such a route needs a login as well."""
    from flask_login import login_required

    app = make_app(options={"identity": FlaskLoginIdentity()})
    with_flask_login(app)

    @app.get("/private")
    @login_required
    def private():
        return current_identity.user_id

    ada = ConversationsClient(app, "ada")
    assert ada.get("/private").status_code == 401
    ada.post("/login/ada")
    assert ada.get("/private").text == "ada"


def test_the_tests_in_the_documentation_pass(tmp_path):
    """The page's app and its tests, run by pytest as a reader would."""
    import os
    import re
    import subprocess
    import sys
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "howto" / "testing-your-app.md").read_text()
    for name, text in re.findall(r"```python title=(\S+)\n(.*?)```", page, re.S):
        (tmp_path / name).write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    # a reader's pytest has not our plugins
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr
