"""HeaderIdentity: a header is believed if it comes straight from the proxy that was named, and only then."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_conversations.errors import ConfigurationError
from flask_conversations.identity import HeaderIdentity

from .tools import whoami_app

PROXY = "10.0.0.5"


def ask(app: Flask, peer: str | None = PROXY, **headers: str) -> dict[str, Any]:
    environ = {"REMOTE_ADDR": peer} if peer is not None else {}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = app.test_client(use_cookies=False).get("/whoami", headers=named, environ_overrides=environ)
    return answer.json


def user(app: Flask, peer: str | None = PROXY, **headers: str) -> str | None:
    return ask(app, peer, **headers)["user_id"]


@pytest.fixture
def app() -> Flask:
    return whoami_app(HeaderIdentity(trusted=[PROXY]))


def test_the_trusted_proxy_names_the_user(app):
    """What the proxy says counts, and is not cookie-borne without a cookie."""
    found = ask(app, X_Forwarded_User="ada")
    assert (found["user_id"], found["cookie_borne"]) == ("ada", False)


@pytest.mark.parametrize(
    "peer", ["10.0.0.6", "192.0.2.1", "::1", "", "unix:", "localhost", "10.0.0.5, 10.0.0.6", "10.0.0.5%eth0"]
)
def test_nobody_else_names_a_user(app, peer):
    """A header from any other address is as if it were not there."""
    assert user(app, peer, X_Forwarded_User="ada") is None


def test_a_forged_forwarded_for_does_not_make_a_proxy(app):
    """Only the connection itself tells who sends."""
    assert user(app, "192.0.2.1", X_Forwarded_User="ada", X_Forwarded_For=PROXY) is None


def test_behind_proxy_fix_the_immediate_peer_counts(app):
    """ProxyFix replaces the address by what the header says; the proxy is still the one that connected."""
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1)
    assert user(app, PROXY, X_Forwarded_User="ada", X_Forwarded_For="192.0.2.1") == "ada"
    assert user(app, "192.0.2.1", X_Forwarded_User="ada", X_Forwarded_For=PROXY) is None


@pytest.mark.parametrize(
    ("trusted", "peer"),
    [
        ("10.0.0.0/8", "10.9.8.7"),
        ("10.0.0.5/8", "10.9.8.7"),
        ("::1", "::1"),
        ("fd00::/8", "fd00::7"),
        ("10.0.0.5", "::ffff:10.0.0.5"),
    ],
)
def test_networks_and_both_kinds_of_addresses_can_be_trusted(trusted, peer):
    """IPv4 also where the server listens on IPv6 and sees it mapped."""
    assert user(whoami_app(HeaderIdentity(trusted=trusted)), peer, X_Forwarded_User="ada") == "ada"


def test_trusted_proxies_come_from_the_settings():
    """`CONVERSATIONS_TRUSTED_PROXIES`, unless the resolver was given its own."""
    assert user(whoami_app(HeaderIdentity(), trusted_proxies=(PROXY,)), X_Forwarded_User="ada") == "ada"


@pytest.mark.parametrize("trusted", [None, [], ["proxy.example"], ["0.0.0.0/0"], ["::/0"], ["10.0.0.5", "300.0.0.1"]])
def test_it_refuses_to_start_without_trusted_proxies(trusted):
    """An empty list, all networks, and a name that another machine could answer for are refused."""
    with pytest.raises(ConfigurationError, match="TRUSTED_PROXIES"):
        whoami_app(HeaderIdentity(trusted=trusted))


def test_the_names_of_the_headers_can_be_set():
    """User and organisation from the headers that the proxy at hand sets."""
    app = whoami_app(HeaderIdentity("X-Auth-Request-Email", "X-Auth-Request-Org", trusted=PROXY))
    found = ask(app, X_Auth_Request_Email="ada@x.example", X_Auth_Request_Org="acme")
    assert (found["user_id"], found["org_id"]) == ("ada@x.example", "acme")
    assert user(app, X_Auth_Request_Email="ada@x.example") is None
    assert user(app, X_Auth_Request_Email="ada@x.example", X_Auth_Request_Org=" ") is None


@pytest.mark.parametrize("value", ["", "  ", "ada,bob", "ada, ada", "guest:1", "\xff"])
def test_an_unsafe_header_names_nobody(app, value):
    """A comma may be the client's own header beside the proxy's."""
    assert user(app, X_Forwarded_User=value) is None


def test_without_the_header_nobody_is_named(app):
    """The proxy lets some requests through without a login."""
    assert user(app) is None


def test_names_are_read_as_utf8(app):
    """WSGI hands the bytes over as Latin-1."""
    assert user(app, X_Forwarded_User="zoë".encode().decode("latin-1")) == "zoë"


def test_beside_a_cookie_the_header_is_taken_as_cookie_borne(app):
    """A proxy that logs browsers in by its own cookie can be used by a foreign page; a token cannot."""
    assert ask(app, X_Forwarded_User="ada", Cookie="_oauth2_proxy=x")["cookie_borne"] is True
    assert ask(app, X_Forwarded_User="ada", Cookie="a=b", Authorization="Bearer x")["cookie_borne"] is False
