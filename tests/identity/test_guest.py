"""Guests: each visitor without a login has an identity, by a signed cookie."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from flask import Flask, jsonify, make_response
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from werkzeug.test import TestResponse

from flask_conversations.errors import ConfigurationError
from flask_conversations.identity import AnonymousIdentity
from flask_conversations.identity.guest import forget_guest, guest_from_cookie
from flask_conversations.identity.resolving import resolve

from .tools import whoami_app

COOKIE = "conversations_guest"


@pytest.fixture
def app() -> Flask:
    return with_claim(whoami_app(AnonymousIdentity()))


def with_claim(app: Flask) -> Flask:
    @app.get("/guest")
    def guest() -> Any:
        return jsonify(guest=guest_from_cookie())

    @app.get("/forget")
    def forget() -> Any:
        forget_guest()
        return make_response("")

    return app


def cookie_of(answer: TestResponse) -> str | None:
    return next((line for line in answer.headers.getlist("Set-Cookie") if line.startswith(COOKIE)), None)


def guest(client: FlaskClient) -> str:
    return client.get("/whoami").json["user_id"]


def test_a_new_visitor_becomes_a_guest(app):
    """The first request already has an anonymous identity with an id of its own."""
    found = app.test_client().get("/whoami").json
    assert (found["anonymous"], found["cookie_borne"]) == (True, True)
    assert uuid.UUID(found["user_id"].removeprefix("guest:")).version == 4


def test_a_guest_stays_the_same_guest(app):
    """The cookie brings the same identity back, and is not handed out again."""
    client = app.test_client()
    first = guest(client)
    again = client.get("/whoami")
    assert again.json["user_id"] == first
    assert cookie_of(again) is None


def test_two_visitors_are_two_guests(app):
    """No two visitors share an identity."""
    assert guest(app.test_client()) != guest(app.test_client())


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(app):
    """httpOnly, SameSite=Lax, path=/, seven days; Secure on https only."""
    plain = cookie_of(app.test_client().get("/whoami"))
    secure = cookie_of(app.test_client().get("/whoami", base_url="https://localhost"))
    for part in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=604800"):
        assert part in plain
    assert "Secure" not in plain
    assert "Secure" in secure


def test_answers_to_new_guests_are_not_shared_by_caches(app):
    """The answer depends on the cookie."""
    assert "Cookie" in app.test_client().get("/whoami").vary


def test_name_and_lifetime_of_the_cookie_can_be_set():
    """`CONVERSATIONS_GUEST_COOKIE` and `CONVERSATIONS_GUEST_DAYS`."""
    app = whoami_app(AnonymousIdentity(), guest_cookie="visitor", guest_days=1)
    line = app.test_client().get("/whoami").headers["Set-Cookie"]
    assert line.startswith("visitor=")
    assert "Max-Age=86400" in line


def test_within_one_request_a_new_guest_keeps_the_id(app):
    """However often the identity is asked for before the cookie is there."""
    with app.test_request_context():
        assert resolve(AnonymousIdentity()).identity == resolve(AnonymousIdentity()).identity
        assert guest_from_cookie() is None


def other_first_character_of_the_signature(cookie):
    """Its first character, as some bits of a base64 text's last one stand for nothing."""
    value, _, signature = cookie.rpartition(".")
    return f"{value}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


@pytest.mark.parametrize("forge", [other_first_character_of_the_signature, lambda c: "guest", lambda c: ""])
def test_a_forged_cookie_makes_a_new_guest(app, forge):
    """A cookie that we did not sign is no error and no identity."""
    client = app.test_client()
    first = guest(client)
    client.set_cookie(COOKIE, forge(client.get_cookie(COOKIE).value))
    answer = client.get("/whoami")
    assert answer.status_code == 200
    assert answer.json["user_id"] != first
    assert cookie_of(answer)


def test_what_the_app_signs_for_other_purposes_is_no_guest_cookie(app):
    """The same key, another salt: a value from elsewhere in the app cannot be replayed as a guest."""
    client = app.test_client()
    client.set_cookie(COOKIE, URLSafeTimedSerializer(app.secret_key, salt="cookie-session").dumps("somebody"))
    assert client.get("/guest").json == {"guest": None}


def test_an_expired_cookie_makes_a_new_guest(app, monkeypatch):
    """After its days the cookie counts no more, even if the browser still sends it."""
    import itsdangerous.timed

    client = app.test_client()
    first = guest(client)
    later = itsdangerous.timed.time.time() + 8 * 86_400
    monkeypatch.setattr(itsdangerous.timed.TimestampSigner, "get_timestamp", lambda self: int(later))
    assert client.get("/guest").json == {"guest": None}
    assert guest(client) != first


def test_guests_survive_a_rotation_of_the_secret_key(app):
    """What SECRET_KEY_FALLBACKS signed still counts; without it there is a new guest."""
    client = app.test_client()
    first = guest(client)
    app.config["SECRET_KEY_FALLBACKS"] = [app.secret_key]
    app.secret_key = "the next secret key"
    assert guest(client) == first
    app.config["SECRET_KEY_FALLBACKS"] = None
    assert guest(client) != first


def test_an_app_without_a_secret_key_does_not_start():
    """Our cookies could not be told from forged ones."""
    app = Flask(__name__)
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        AnonymousIdentity().check(app, None)


def test_without_a_secret_key_there_are_no_guests(app):
    """An app that lost its key says so, and takes no guest from a cookie."""
    app.secret_key = None
    with app.test_request_context(headers={"Cookie": f"{COOKIE}=x"}):
        assert guest_from_cookie() is None
        with pytest.raises(ConfigurationError, match="SECRET_KEY"):
            AnonymousIdentity()()


def test_the_claimed_guest_comes_from_the_own_cookie_only(app):
    """The id of a guest is read from the signed cookie, whatever else the request says."""
    client = app.test_client()
    first = guest(client)
    assert client.get("/guest?guest=guest:other", headers={"X-Guest": "guest:other"}).json == {"guest": first}
    assert app.test_client().get("/guest").json == {"guest": None}


def test_a_forgotten_guest_loses_the_cookie(app):
    """After the claim the browser does not come back as the old guest."""
    client = app.test_client()
    first = guest(client)
    client.get("/forget")
    assert client.get_cookie(COOKIE) is None
    assert guest(client) != first


def test_a_guest_who_is_forgotten_at_once_gets_no_cookie():
    """Deleting wins over handing out in the same response."""
    app = whoami_app()

    @app.get("/")
    def view() -> str:
        AnonymousIdentity()()
        forget_guest()
        return ""

    client = app.test_client()
    client.get("/")
    assert client.get_cookie(COOKIE) is None
