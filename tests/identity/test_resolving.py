"""From an answer to an identity: nothing unsafe passes, and where an answer came from is known or assumed the worst."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, request, session

from flask_conversations.config import Config
from flask_conversations.errors import ConfigurationError, IdentityRequired
from flask_conversations.identity import Identity, JWTIdentity
from flask_conversations.identity.resolving import load_resolver, resolve

from .tools import KEY, token, whoami_app

USER = SimpleNamespace(id="ada", user_id="ada", get_id=lambda: "ada")
UNSAFE = {
    "empty": "",
    "blank": " \t",
    "with NUL": "a\0",
    "with a lone surrogate": "a\udfff",
    "too long": "a" * 256,
    "a number": 7,
    "zero": 0,
    "true": True,
    "false": False,
    "bytes": b"ada",
    "a mapping": {"user_id": "ada"},
    "a list": ["ada"],
    "an object with an id": USER,
    "an object without one": object(),
    "a class": Identity,
    "a guest's id": "guest:0d6ee3a4-6d5f-4a53-b2a1-6b6c7ef9d0c4",
    "a guest's id of somebody who is none": Identity("guest:1", org_id="acme"),
}


def resolved(resolver: Any, **request_options: Any) -> Any:
    app = whoami_app()
    with app.test_request_context("/", **request_options):
        return resolve(resolver)


def test_text_is_a_user_id():
    """A resolver may answer with a plain user id."""
    assert resolved(lambda: "ada").identity == Identity("ada")


def test_an_identity_is_taken_as_it_is():
    """A resolver may answer with everything it knows."""
    ada = Identity("ada", org_id="acme", scopes=frozenset({"read"}))
    assert resolved(lambda: ada).identity is ada


def test_none_is_nobody():
    """A resolver that finds no user returns None."""
    assert resolved(lambda: None) is None


def test_an_unsafe_answer_is_nobody(subtests):
    """Nothing that might name several people, or none, becomes an identity."""
    for name, answer in UNSAFE.items():
        with subtests.test(name):
            assert resolved(lambda answer=answer: answer) is None


def test_an_unsafe_answer_is_logged_once_per_kind_and_without_itself(caplog):
    """The developer learns of it, the log is not flooded, and what was answered is not in it."""
    app = whoami_app()
    with app.test_request_context(), caplog.at_level(logging.WARNING):
        for answer in (123456789, 987654321, "", " ", b"secret"):
            assert resolve(lambda answer=answer: answer) is None
    assert len(caplog.records) == 3
    assert not any(value in caplog.text for value in ("123456789", "987654321", "secret"))


def test_each_app_logs_for_itself(caplog):
    """Nothing of one app is remembered in another."""
    with caplog.at_level(logging.WARNING):
        resolved(lambda: 7)
        resolved(lambda: 7)
    assert len(caplog.records) == 2


def test_identity_required_means_nobody():
    """A resolver may raise instead of answering None."""

    def refuse() -> None:
        raise IdentityRequired

    assert resolved(refuse) is None


def test_an_unsafe_identity_that_the_resolver_makes_means_nobody():
    """`Identity("")` in a resolver is a refusal, not an error page."""
    assert resolved(lambda: Identity("")) is None


def test_other_errors_of_a_resolver_are_not_hidden():
    """A broken resolver is an error of the host and not a missing login."""
    with pytest.raises(ZeroDivisionError):
        resolved(lambda: 1 / 0)


# -- where it came from -------------------------------------------------------------------------------------------------
COOKIE = {"Cookie": "theme=dark"}
BEARER = {"Authorization": "Bearer x"}
BASIC = {"Authorization": "Basic YTpi"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, False), (COOKIE, True), (BEARER, False), ({**COOKIE, **BEARER}, False), ({**COOKIE, **BASIC}, True)],
    ids=["nothing", "a cookie", "a token", "both", "a cookie and a password that browsers repeat"],
)
def test_a_hosts_own_resolver_is_taken_to_use_the_cookie_there_is(headers, expected):
    """What a browser may have sent by itself needs a proof, unless there is an Authorization header that it never sends."""
    assert resolved(lambda: "ada", headers=headers).cookie_borne is expected


def test_a_hosts_own_resolver_that_reads_the_session_is_cookie_borne():
    """Even beside an Authorization header."""

    def read() -> str:
        return session.get("user") or "ada"

    assert resolved(read, headers={**COOKIE, **BEARER}).cookie_borne is True
    assert resolved(read, headers=BEARER).cookie_borne is False


@pytest.mark.parametrize("read_before", [True, False])
def test_an_earlier_look_at_the_session_does_not_count(read_before):
    """Only what the resolver reads tells where its answer comes from, and `Vary: Cookie` is not lost."""
    app = whoami_app()
    with app.test_request_context(headers={**COOKIE, **BEARER}):
        if read_before:
            session.get("theme")
        assert resolve(lambda: "ada").cookie_borne is False
        assert resolve(lambda: session.get("user") or "ada").cookie_borne is True
        response = app.make_response("")
        app.session_interface.save_session(app, session._get_current_object(), response)
    assert "Cookie" in response.vary


def test_a_resolver_around_ours_is_judged_like_any_other():
    """A host's own code around JWTIdentity may have used the session instead."""
    ours = JWTIdentity()
    authorization = {"Authorization": f"Bearer {token()}"}
    assert resolved(lambda: ours(), headers={**COOKIE, **authorization}).cookie_borne is False
    assert resolved(lambda: session.get("x") or ours(), headers={**COOKIE, **authorization}).cookie_borne is True


def test_one_request_tells_nothing_to_the_next():
    """What was noted for a refused answer does not stick to another resolver's answer."""
    app = whoami_app()
    with app.test_request_context(headers={"Cookie": f"t={token()}"}):
        assert resolve(JWTIdentity(cookie="t")).cookie_borne is True
        assert request.cookies
    with app.test_request_context():
        assert resolve(lambda: "ada").cookie_borne is False


# -- loading ------------------------------------------------------------------------------------------------------------
def load(configured: Any) -> Any:
    return load_resolver(configured, Flask(__name__), Config(jwt_key=KEY))


def test_no_resolver_is_an_error_that_says_what_to_do():
    """There is no default user."""
    with pytest.raises(ConfigurationError, match="identity_loader"):
        load(None)


def test_a_class_or_an_import_path_is_enough():
    """`CONVERSATIONS_IDENTITY` from the environment can only be text."""
    assert isinstance(load("flask_conversations.identity.JWTIdentity"), JWTIdentity)
    assert isinstance(load("flask_conversations.identity:JWTIdentity"), JWTIdentity)
    assert isinstance(load(JWTIdentity), JWTIdentity)


async def coroutine() -> str:
    return "ada"


class NeedsArguments:
    def __init__(self, key: str) -> None:
        self.key = key


@pytest.mark.parametrize(
    "wrong", ["no.such.module", "flask.NoSuchThing", 7, {"user_id": "ada"}, coroutine, NeedsArguments]
)
def test_what_cannot_resolve_is_refused_at_start(wrong):
    """Not at the first request."""
    with pytest.raises(ConfigurationError):
        load(wrong)


def test_a_resolvers_own_check_runs_at_start():
    """A host's own resolver may check its settings too."""

    class Checked:
        def check(self, app: Flask, config: Config) -> None:
            raise ConfigurationError("No.")

        def __call__(self) -> None: ...

    with pytest.raises(ConfigurationError, match="No"):
        load(Checked())
