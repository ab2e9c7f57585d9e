"""SessionIdentity and FlaskLoginIdentity: the login that the host has is the login of the conversations."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import flask_login
import pytest
from flask import Flask
from flask.sessions import SessionInterface
from flask_login import AnonymousUserMixin, LoginManager, UserMixin

from flask_conversations.errors import ConfigurationError
from flask_conversations.identity import FlaskLoginIdentity, SessionIdentity

from .tools import whoami_app


def ask(app: Flask, **in_session: Any) -> dict[str, Any]:
    client = app.test_client()
    with client.session_transaction() as session:
        session.update(in_session)
    return client.get("/whoami").json


# -- the session --------------------------------------------------------------------------------------------------------
def test_the_session_names_the_user():
    """What the login view put there, and it is cookie-borne."""
    found = ask(whoami_app(SessionIdentity()), user_id="ada")
    assert (found["user_id"], found["cookie_borne"]) == ("ada", True)


def test_an_empty_session_names_nobody():
    """Nor does one that was logged out by None."""
    assert ask(whoami_app(SessionIdentity()))["user_id"] is None
    assert ask(whoami_app(SessionIdentity()), user_id=None)["user_id"] is None


@pytest.mark.parametrize("value", [7, 0, True, "", " ", ["ada"], {"id": "ada"}, b"ada", uuid.UUID(int=1), "guest:1"])
def test_only_text_in_the_session_names_a_user(value):
    """A number could be anything's id: the login view writes `str(user.id)`."""
    assert ask(whoami_app(SessionIdentity()), user_id=value)["user_id"] is None


def test_keys_of_user_and_organisation_can_be_named():
    """With an organisation key, both are needed."""
    app = whoami_app(SessionIdentity("email", "dept"))
    found = ask(app, email="ada@x.example", dept="maths")
    assert (found["user_id"], found["org_id"]) == ("ada@x.example", "maths")
    assert [ask(app, email="ada@x.example", **dept)["user_id"] for dept in ({}, {"dept": ""}, {"dept": 7})] == [
        None
    ] * 3


def test_a_session_in_a_cookie_needs_a_secret_key():
    """A session on the server may do without."""
    app = Flask(__name__)
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        SessionIdentity().check(app, None)
    app.session_interface = SessionInterface()
    SessionIdentity().check(app, None)


# -- Flask-Login --------------------------------------------------------------------------------------------------------
class User(UserMixin):
    def __init__(self, id: Any, org: Any = "acme") -> None:
        self.id = id
        self.org = org


def login_app(resolver: Any = None, *, by_request: Any = None, users: Any = User) -> Flask:
    app = whoami_app(resolver or FlaskLoginIdentity())
    manager = LoginManager(app)
    manager.user_loader(users)
    if by_request is not None:
        manager.request_loader(by_request)

    @app.get("/login/<user_id>")
    def login(user_id: str) -> str:
        flask_login.login_user(User(user_id), remember=user_id == "remembered")
        return ""

    @app.get("/logout")
    def logout() -> str:
        flask_login.logout_user()
        return ""

    return app


def test_the_current_user_is_the_identity():
    """From login to logout."""
    client = login_app().test_client()
    assert client.get("/whoami").status_code == 401
    client.get("/login/ada")
    found = client.get("/whoami").json
    assert (found["user_id"], found["cookie_borne"], found["anonymous"]) == ("ada", True, False)
    client.get("/logout")
    assert client.get("/whoami").status_code == 401


@pytest.mark.parametrize(("value", "expected"), [("7", "7"), (7, "7"), (uuid.UUID(int=7), str(uuid.UUID(int=7)))])
def test_ids_become_text(value, expected):
    """Most hosts have integer keys."""

    class Numbered(User):
        def get_id(self) -> Any:
            return value

    app = login_app(users=lambda _: Numbered(value))
    assert ask(app, _user_id=str(value))["user_id"] == expected


@pytest.mark.parametrize("value", [None, True, b"ada", "", " ", ["ada"], 1.5, "guest:1"])
def test_other_ids_name_nobody(value):
    """An id that is none is not made into one."""

    class Odd(User):
        def get_id(self) -> Any:
            return value

    assert ask(login_app(users=lambda _: Odd(value)), _user_id="x")["user_id"] is None


def test_an_anonymous_user_is_nobody():
    """Also a host's own anonymous user with an id."""

    class Visitor(AnonymousUserMixin):
        id = "visitor"

        def get_id(self) -> str:
            return self.id

    app = login_app()
    app.login_manager.anonymous_user = Visitor
    assert ask(app)["user_id"] is None


def test_a_remembered_user_is_cookie_borne():
    """The remember cookie is a cookie."""
    client = login_app().test_client()
    client.get("/login/remembered")
    client.delete_cookie("session")
    assert client.get("/whoami").json["user_id"] == "remembered"
    client.delete_cookie("session")
    headers = {"Authorization": "Bearer x", "Origin": "http://localhost"}
    assert client.post("/whoami", headers=headers).json["cookie_borne"] is True


def by_header(request: Any) -> User | None:
    return User("robot") if request.headers.get("Authorization") == "Bearer robots" else None


def test_a_user_by_request_loader_is_not_cookie_borne():
    """Where the session and the remember cookie name no user, the header did."""
    client = login_app(by_request=by_header).test_client()
    client.set_cookie("theme", "dark")
    found = client.get("/whoami", headers={"Authorization": "Bearer robots"}).json
    assert (found["user_id"], found["cookie_borne"]) == ("robot", False)


def test_a_logged_in_user_with_a_header_is_cookie_borne():
    """The session wins in Flask-Login, so that the header proves nothing."""
    client = login_app(by_request=by_header).test_client()
    client.get("/login/ada")
    found = client.get("/whoami", headers={"Authorization": "Bearer robots"}).json
    assert (found["user_id"], found["cookie_borne"]) == ("ada", True)


def test_two_users_inside_one_app_context_stay_two():
    """Flask-Login keeps the user on `g`, which requests inside an outer app_context() share."""
    app = login_app()
    ada, bob, stranger = (app.test_client() for _ in range(3))
    ada.get("/login/ada")
    bob.get("/login/bob")
    with app.app_context():
        assert [client.get("/whoami").json["user_id"] for client in (ada, bob, stranger, ada)] == [
            "ada",
            "bob",
            None,
            "ada",
        ]


def test_user_and_organisation_may_be_other_attributes():
    """For users whose get_id() changes, and for hosts with several organisations."""
    users = {"t": SimpleNamespace(is_authenticated=True, get_id=lambda: "t", uid="ada", org=7)}
    app = login_app(FlaskLoginIdentity(user_attribute="uid", org_attribute="org"), users=users.get)
    found = ask(app, _user_id="t")
    assert (found["user_id"], found["org_id"]) == ("ada", "7")


def test_a_user_without_the_organisation_is_nobody():
    """Never widened to the users without one."""
    app = login_app(FlaskLoginIdentity(org_attribute="org"), users=lambda user_id: User(user_id, org=None))
    assert ask(app, _user_id="ada")["user_id"] is None


def test_without_a_login_manager_the_error_says_what_to_do():
    """Not an AttributeError."""
    app = whoami_app(FlaskLoginIdentity())
    with app.test_request_context(), pytest.raises(ConfigurationError, match="LoginManager"):
        FlaskLoginIdentity()()


def test_without_flask_login_the_error_names_the_package(monkeypatch):
    """At start, not at the first request."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install"):
        FlaskLoginIdentity().check(Flask(__name__), None)
