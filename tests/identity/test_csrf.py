"""CSRF: a change that a browser signs with a cookie needs a proof that no foreign page has sent it."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_conversations.config import Config
from flask_conversations.errors import ConfigurationError
from flask_conversations.identity import AnonymousIdentity, Identity, JWTIdentity, SessionIdentity
from flask_conversations.identity.csrf import check_trusted_origins, csrf_token, parse_origin

from .tools import token, whoami_app

OWN = {"Origin": "http://localhost"}
PROVEN = {
    "the own origin": OWN,
    "the own origin with its default port": {"Origin": "http://localhost:80"},
    "the own origin and the browser's word": {**OWN, "Sec-Fetch-Site": "same-origin"},
    "the browser's word alone": {"Sec-Fetch-Site": "same-origin"},
    "the user's own reload": {"Sec-Fetch-Site": "none"},
    "a trusted origin": {"Origin": "https://chat.example"},
    "a trusted origin, which is another site": {"Origin": "https://chat.example", "Sec-Fetch-Site": "cross-site"},
    "a trusted origin with its default port": {"Origin": "https://chat.example:443"},
    "a trusted origin of another port": {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
}
UNPROVEN = {
    "nothing": {},
    "a referer of this site": {"Referer": "http://localhost/chat"},
    "a foreign origin": {"Origin": "https://evil.example"},
    "a foreign origin and a referer of this site": {"Origin": "https://evil.example", "Referer": "http://localhost/"},
    "a foreign origin and a same-origin claim": {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    "origin null": {"Origin": "null"},
    "origin null and a same-origin claim": {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
    "an empty origin": {"Origin": ""},
    "the own host by another scheme": {"Origin": "https://localhost"},
    "the own host by another port": {"Origin": "http://localhost:8080"},
    "a host that begins like the own": {"Origin": "http://localhost.evil.example"},
    "a host that ends like the own": {"Origin": "http://evil-localhost"},
    "the own host as a user name": {"Origin": "http://localhost@evil.example"},
    "the own origin with a path": {"Origin": "http://localhost/chat"},
    "two origins": {"Origin": "http://localhost https://evil.example"},
    "two origins with a comma": {"Origin": "http://localhost, http://localhost"},
    "a trusted host by another scheme": {"Origin": "http://chat.example"},
    "a subdomain of a trusted host": {"Origin": "https://evil.chat.example"},
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "another site and a referer of this site": {"Sec-Fetch-Site": "cross-site", "Referer": "http://localhost/"},
    "another site that claims the own origin": {**OWN, "Sec-Fetch-Site": "cross-site"},
    "a sibling domain": {"Sec-Fetch-Site": "same-site"},
    "an unknown word": {"Sec-Fetch-Site": "trust-me"},
    "a made-up token": {"X-CSRF-Token": "x"},
    "a JSON body": {"Content-Type": "application/json"},
    "a header of scripts": {"X-Requested-With": "XMLHttpRequest"},
}


@pytest.fixture
def app() -> Flask:
    app = whoami_app(SessionIdentity(), trusted_origins=("https://chat.example", "http://localhost:3000"))
    app.add_url_rule("/token", view_func=lambda: csrf_token(Identity("ada")))
    return app


def post(app: Flask, headers: dict[str, str], method: str = "POST", **options: Any) -> int:
    client = app.test_client()
    with client.session_transaction() as session:
        session["user_id"] = "ada"
    return client.open("/whoami", method=method, headers=headers, **options).status_code


def token_for(app: Flask, identity: Identity) -> str:
    with app.test_request_context():
        return csrf_token(identity)


def test_a_change_from_this_site_is_let_in(app, subtests):
    """Each of these only the site itself, a trusted one, or the user can send."""
    for name, headers in PROVEN.items():
        with subtests.test(name):
            assert post(app, headers) == 200


def test_a_change_without_a_proof_is_refused(app, subtests):
    """Each of these a foreign page could have sent, or it is unknown."""
    for name, headers in UNPROVEN.items():
        with subtests.test(name):
            assert post(app, headers) == 403


def test_reading_needs_no_proof(app, subtests):
    """A foreign page can start a GET but not see its answer, and it changes nothing."""
    for name, headers in UNPROVEN.items():
        with subtests.test(name):
            assert post(app, headers, method="GET") == 200


def test_a_change_by_header_token_needs_no_proof():
    """No foreign page can send another user's Authorization header."""
    app = whoami_app(JWTIdentity())
    headers = {"Authorization": f"Bearer {token()}", "Origin": "https://evil.example", "Cookie": "theme=dark"}
    answer = app.test_client(use_cookies=False).post("/whoami", headers=headers)
    assert (answer.status_code, answer.json["cookie_borne"]) == (200, False)


def test_a_change_by_cookie_token_needs_a_proof():
    """A token in a cookie is sent by the browser like any other cookie."""
    app = whoami_app(JWTIdentity(cookie="t"))
    client = app.test_client()
    client.set_cookie("t", token())
    assert client.post("/whoami").status_code == 403
    assert client.post("/whoami", headers=OWN).status_code == 200


@pytest.mark.parametrize("csrf", ["host", "exempt"])
def test_a_host_may_see_to_it_itself(csrf):
    """With Flask-WTF or an own check nothing is asked twice."""
    assert post(whoami_app(SessionIdentity(), csrf=csrf), {}) == 200


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://localhost", "https://localhost"),
        ("https://localhost", "https://localhost:443"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://localhost:5000", "http://LOCALHOST:5000"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_the_own_origin_is_what_the_browser_asked_for(base_url, origin):
    """Scheme, host and port of the request itself."""
    app = whoami_app(AnonymousIdentity())
    assert app.test_client().post("/whoami", base_url=base_url, headers={"Origin": origin}).status_code == 200


# -- tokens -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("header", ["X-CSRF-Token", "X-CSRFToken"])
def test_a_token_is_a_proof(app, header):
    """For clients that send neither Origin nor Sec-Fetch-Site."""
    assert post(app, {header: token_for(app, Identity("ada"))}) == 200


@pytest.mark.parametrize("other", [Identity("bob"), Identity("ada", org_id="acme"), Identity("ada2")])
def test_a_token_is_for_one_identity(app, other):
    """Neither another user's token nor the same user's of another organisation is a proof."""
    assert post(app, {"X-CSRF-Token": token_for(app, other)}) == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 200),
        (OWN, 200),
        ({"Origin": "https://chat.example"}, 200),
    ],
)
def test_a_token_does_not_outweigh_a_foreign_origin(app, headers, status):
    """Where the browser says that a foreign page asks, the token was stolen."""
    assert post(app, {"X-CSRF-Token": token_for(app, Identity("ada")), **headers}) == status


def test_a_token_is_good_for_half_a_day(app, monkeypatch):
    """An old token is no proof."""
    import itsdangerous.timed

    made = token_for(app, Identity("ada"))
    later = itsdangerous.timed.time.time() + 13 * 3600
    monkeypatch.setattr(itsdangerous.timed.TimestampSigner, "get_timestamp", lambda self: int(later))
    assert post(app, {"X-CSRF-Token": made}) == 403


def test_a_token_does_not_tell_the_user(app):
    """It may end up in a log."""
    made = token_for(app, Identity("ada@x.example"))
    assert "ada" not in made


def test_a_token_of_another_app_is_no_proof(app):
    """Only this app's SECRET_KEY signs."""
    other = whoami_app(SessionIdentity())
    other.secret_key = "another secret key"
    assert post(app, {"X-CSRF-Token": token_for(other, Identity("ada"))}) == 403


# -- guests -------------------------------------------------------------------------------------------------------------
def test_a_foreign_page_cannot_replace_a_guests_cookie():
    """A cross-site POST comes without the Lax cookie; its refusal must not hand out a new one over the old."""
    client = whoami_app(AnonymousIdentity()).test_client()
    answer = client.post("/whoami", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


# -- origins ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wrong", ["*", "chat.example", "https://chat.example/", "https://*.example", "null", "", "https://"]
)
def test_a_trusted_origin_that_no_browser_sends_is_refused_at_start(wrong):
    """A slash at the end would silently match no origin."""
    with pytest.raises(ConfigurationError, match="TRUSTED_ORIGINS"):
        check_trusted_origins(Config(trusted_origins=[wrong]))


def test_usual_trusted_origins_are_accepted_at_start():
    """Web sites and the apps that wrap them."""
    check_trusted_origins(
        Config(trusted_origins=["https://a.example", "http://localhost:3000", "capacitor://localhost"])
    )


@given(st.text() | st.builds("http://{}".format, st.text()))
def test_no_origin_makes_the_app_fail(text):
    """CorruptEntry is no origin, and no exception."""
    assert parse_origin(text) is None or "://" in text
