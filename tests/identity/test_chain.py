"""ChainIdentity: the first that answers, and no back door for those whom the first has refused."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_conversations.errors import ConfigurationError, IdentityRequired
from flask_conversations.identity import AnonymousIdentity, ChainIdentity, HeaderIdentity, JWTIdentity, SessionIdentity

from .bad_tokens import BAD
from .tools import KEY, OTHER_KEY, token, who, whoami_app


def chain(*resolvers: Any, **settings: Any) -> Flask:
    return whoami_app(ChainIdentity(*resolvers), **settings)


def test_the_first_that_answers_is_believed():
    """A token before the session, the session before a guest."""
    app = chain(JWTIdentity(), SessionIdentity(), AnonymousIdentity())
    client = app.test_client()
    assert client.get("/whoami").json["anonymous"] is True
    with client.session_transaction() as session:
        session["user_id"] = "bob"
    assert client.get("/whoami").json["user_id"] == "bob"
    assert client.get("/whoami", headers={"Authorization": f"Bearer {token()}"}).json["user_id"] == "ada"


def test_whether_it_is_cookie_borne_is_up_to_the_one_that_answers():
    """A token counts as a token, although the session was looked at first."""
    app = chain(SessionIdentity(), JWTIdentity(), AnonymousIdentity())
    client = app.test_client()
    client.set_cookie("theme", "dark")
    assert client.get("/whoami", headers={"Authorization": f"Bearer {token()}"}).json["cookie_borne"] is False
    assert client.get("/whoami").json["cookie_borne"] is True


def test_a_bad_token_is_not_let_in_as_a_guest(subtests):
    """Nor by a session cookie: who presents a bad token learns that it is bad."""
    app = chain(JWTIdentity(), SessionIdentity(), lambda: "anyone", AnonymousIdentity())
    for name, make in BAD.items():
        with subtests.test(name):
            client = app.test_client()
            with client.session_transaction() as session:
                session["user_id"] = "bob"
            answer = client.get("/whoami", headers={"Authorization": make(KEY)})
            assert answer.status_code == 401
            assert "Set-Cookie" not in answer.headers


def test_a_refused_header_is_shown_to_the_next_token_resolver():
    """Two login servers, each with its own key."""
    app = chain(JWTIdentity(key=KEY), SessionIdentity(), JWTIdentity(key=OTHER_KEY), AnonymousIdentity())
    assert who(app, token(OTHER_KEY))["user_id"] == "ada"
    assert who(app, token("a key of nobody's that is long enough for it")) is None


def test_a_chain_in_a_chain_closes_the_same_door():
    """A refused header does not get past the inner chain either."""
    app = chain(ChainIdentity(JWTIdentity(), SessionIdentity()), AnonymousIdentity())
    assert who(app)["anonymous"] is True
    assert who(app, "rubbish") is None


@pytest.mark.parametrize("unsafe", ["", 7, False, {"user_id": "ada"}, "guest:1"])
def test_an_unsafe_answer_ends_the_chain(unsafe):
    """It is not skipped in favour of another identity."""
    assert who(chain(lambda: unsafe, lambda: "bob")) is None


def test_a_resolver_can_end_the_chain():
    """By raising IdentityRequired."""

    def locked_out() -> None:
        raise IdentityRequired

    assert who(chain(locked_out, lambda: "bob")) is None


def test_a_chain_without_an_identity_has_none():
    """There is no default user at its end."""
    assert who(chain(JWTIdentity(), SessionIdentity())) is None


def test_classes_and_import_paths_may_be_members():
    """As for the resolver itself."""
    app = chain(JWTIdentity, "flask_conversations.identity.AnonymousIdentity")
    assert who(app)["anonymous"] is True


def test_every_member_is_checked_at_start():
    """Also the last one."""
    with pytest.raises(ConfigurationError, match="TRUSTED_PROXIES"):
        chain(JWTIdentity(), HeaderIdentity())


def test_an_empty_chain_is_refused():
    """It would lock everybody out."""
    with pytest.raises(ConfigurationError):
        ChainIdentity()
