"""Guests over HTTP: a conversation before the login, and the same one after it."""

from __future__ import annotations

import pytest
from flask import Flask, session
from itsdangerous import URLSafeTimedSerializer

from flask_conversations.identity import AnonymousIdentity, ChainIdentity, SessionIdentity

from .tools import URL, contents, created, problem

COOKIE = "conversations_guest"
OWN_PAGE = {"Origin": "http://localhost"}


@pytest.fixture
def app(make_app) -> Flask:
    """A shop: logged-in visitors are users, all others guests."""
    app = make_app(options={"identity": ChainIdentity(SessionIdentity(), AnonymousIdentity())})

    @app.post("/login/<name>")
    def login(name: str) -> str:
        session["user_id"] = name
        return ""

    return app


@pytest.fixture
def browser(app):
    """Makes browsers, which send cookies and where their requests come from."""

    def make():
        client = app.test_client()
        client.environ_base["HTTP_ORIGIN"] = OWN_PAGE["Origin"]
        return client

    return make


def test_a_guest_keeps_their_conversation_by_cookie(browser):
    """The first request gives the cookie; other guests, and the guest without it, see nothing."""
    guest, other = browser(), browser()
    made = created(guest, "hello")
    assert guest.get_cookie(COOKIE) is not None
    assert contents(guest, made["id"]) == ["hello"]
    assert other.get(f"{URL}/{made['id']}").status_code == 404
    guest.delete_cookie(COOKIE)
    assert guest.get(f"{URL}/{made['id']}").status_code == 404


def test_after_the_login_the_conversation_comes_along(browser):
    """`POST /claim` moves all of the guest's conversations, the trash included, once; the guest's cookie goes."""
    guest = browser()
    made, trashed = created(guest, "hello", tags=["t"]), created(guest)
    guest.delete(f"{URL}/{trashed['id']}")
    guest.post("/login/ada")
    assert guest.get(URL).json["conversations"] == []
    answer = guest.post(f"{URL}/claim")
    assert (answer.status_code, answer.json) == (200, {"claimed": 2})
    assert guest.get_cookie(COOKIE) is None
    assert contents(guest, made["id"]) == ["hello"]
    assert guest.get(f"{URL}?tag=t").json["conversations"][0]["user_id"] == "ada"
    assert guest.post(f"{URL}/claim").json == {"claimed": 0}


def test_the_guest_is_taken_from_the_own_signed_cookie_only(browser):
    """No id in body, query or header, and no cookie that we did not sign, claims any conversation."""
    guest, thief = browser(), browser()
    made = created(guest, "secret")
    name = made["user_id"]
    assert name.startswith("guest:")
    thief.post("/login/eve")
    assert thief.post(f"{URL}/claim?anonymous_user_id={name}").json == {"claimed": 0}
    problem(thief.post(f"{URL}/claim", json={"anonymous_user_id": name}), 422, "validation_failed")
    cookie = guest.get_cookie(COOKIE).value
    other_key = URLSafeTimedSerializer("another key", salt="flask-conversations.guest cookie")
    forged = [name, name.removeprefix("guest:"), cookie[:-2], other_key.dumps(name.removeprefix("guest:"))]
    for value in forged:
        thief.set_cookie(COOKIE, value)
        assert thief.post(f"{URL}/claim").json == {"claimed": 0}
        assert thief.get(f"{URL}?status=all").json["conversations"] == []
    assert contents(guest, made["id"]) == ["secret"]


def test_what_has_been_claimed_is_no_guests_any_more(browser):
    """A kept copy of the cookie opens nothing, and claims nothing back."""
    guest = browser()
    made = created(guest, "hello")
    old = guest.get_cookie(COOKIE).value
    guest.post("/login/ada")
    guest.post(f"{URL}/claim")
    again = browser()
    again.set_cookie(COOKIE, old)
    assert again.get(f"{URL}/{made['id']}").status_code == 404
    again.post("/login/eve")
    assert again.post(f"{URL}/claim").json == {"claimed": 0}
    assert contents(guest, made["id"]) == ["hello"]


def test_a_guest_claims_nothing(browser):
    """Who has not logged in cannot take over, and keeps what is theirs."""
    guest = browser()
    made = created(guest, "hello")
    problem(guest.post(f"{URL}/claim"), 422, "validation_failed")
    assert contents(guest, made["id"]) == ["hello"]


def test_a_claim_needs_a_proof_like_every_change(browser):
    """A foreign page cannot log the user's guest in as them: 403, and the cookie stays."""
    guest = browser()
    created(guest, "hello")
    guest.post("/login/ada")
    problem(guest.post(f"{URL}/claim", headers={"Origin": "https://evil.example"}), 403, "csrf_failed")
    assert guest.get_cookie(COOKIE) is not None
    assert guest.post(f"{URL}/claim").json == {"claimed": 1}


def test_a_client_id_that_both_have_is_the_users(browser):
    """The guest's conversation comes along under its own id."""
    guest, user = browser(), browser()
    user.post("/login/ada")
    mine = created(user, "mine", id="draft")
    theirs = created(guest, "theirs", id="draft")
    guest.post("/login/ada")
    assert guest.post(f"{URL}/claim").json == {"claimed": 1}
    assert contents(user, "draft") == contents(user, mine["id"]) == ["mine"]
    assert contents(user, theirs["id"]) == ["theirs"]
