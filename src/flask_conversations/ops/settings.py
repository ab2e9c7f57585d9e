"""The checks of `doctor` on the identity and its keys. No text ever contains a key."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask

from ..config import Config
from ..errors import ConfigurationError
from ..identity import AnonymousIdentity, ChainIdentity, FlaskLoginIdentity, JWTIdentity, SessionIdentity
from ..identity.keys import keys_from
from ..identity.resolving import Resolver
from ..identity.settings import is_lenient
from .finding import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from ..state import State

MIN_SECRET_LENGTH = 16
"""Bytes that a secret key should have at least."""

GUESSABLE = frozenset(
    {"dev", "development", "secret", "secret-key", "secret_key", "change-me", "changeme", "test", "password"}
)
"""Keys out of tutorials."""


def examine(app: Flask, state: State) -> Iterator[Finding]:
    """Keys, tokens, cookies and forged requests."""
    config: Config = state.config
    resolvers = list(_resolvers(state.resolver))
    if is_lenient(app):
        yield Finding("mode", WARN, "The app runs for debugging or testing, where weak keys are only warned about.")
    yield _secret_key(app)
    yield Finding("identity", OK, f"{', '.join(_name(resolver) for resolver in resolvers)}.")
    for resolver in resolvers:
        if isinstance(resolver, JWTIdentity):
            yield from _jwt(app, dataclasses.replace(config, **resolver._options))
    yield _csrf(app, config)
    cookies = (SessionIdentity, FlaskLoginIdentity, AnonymousIdentity)
    if config.jwt_cookie or any(isinstance(resolver, cookies) for resolver in resolvers):
        yield _cookies(app)
    if any(isinstance(resolver, AnonymousIdentity) for resolver in resolvers):
        yield Finding(
            "guests",
            OK,
            f"The cookie {config.guest_cookie!r} lasts {config.guest_days} days; a guest who loses it loses the conversations "
            f"with it, unless they log in before.",
        )


def _resolvers(resolver: Resolver) -> Iterator[Resolver]:
    """The single resolvers: a chain is made of others."""
    if isinstance(resolver, ChainIdentity):
        for one in resolver.resolvers:
            yield from _resolvers(one)
    else:
        yield resolver


def _name(resolver: Resolver) -> str:
    return str(getattr(resolver, "__name__", type(resolver).__name__))


def _secret_key(app: Flask) -> Finding:
    key = app.secret_key
    weak = FAIL if not is_lenient(app) else WARN
    if not key:
        return Finding(
            "SECRET_KEY",
            WARN,
            "There is none: no sessions, no guests, no CSRF tokens, and cursors are signed with a public default. "
            "Make one with: python -c 'import secrets; print(secrets.token_hex(32))'",
        )
    text = key.decode("latin-1") if isinstance(key, bytes) else str(key)
    if text.lower() in GUESSABLE:
        return Finding("SECRET_KEY", weak, "It can be guessed, and then a client can be any user. Set a random one.")
    if len(text) < MIN_SECRET_LENGTH:
        return Finding(
            "SECRET_KEY", WARN, f"It has {len(text)} characters. Set a random one of {2 * MIN_SECRET_LENGTH} or more."
        )
    fallbacks = len(app.config.get("SECRET_KEY_FALLBACKS") or ())
    return Finding(
        "SECRET_KEY", OK, f"It is set{f', with {fallbacks} older ones still accepted' if fallbacks else ''}."
    )


def _jwt(app: Flask, config: Config) -> Iterator[Finding]:
    yield _jwt_key(app, config)
    if config.jwt_audience is None:
        yield Finding(
            "JWT audience",
            WARN,
            "None is required: a token that the same key signed for another app is accepted here. Set CONVERSATIONS_JWT_AUDIENCE.",
        )
    else:
        yield Finding("JWT audience", OK, "A token must be meant for this app.")
    if config.jwt_issuer is None and config.jwt_jwks_url is not None:
        yield Finding(
            "JWT issuer", WARN, "None is required, although keys come from a URL. Set CONVERSATIONS_JWT_ISSUER."
        )
    if "exp" not in config.jwt_required:
        yield Finding(
            "JWT expiry",
            WARN,
            "Tokens without one are accepted, and good for ever. Put exp into CONVERSATIONS_JWT_REQUIRED.",
        )


def _jwt_key(app: Flask, config: Config) -> Finding:
    algorithms = ", ".join(config.jwt_algorithms)
    if config.jwt_jwks_url is not None:
        return Finding("JWT key", OK, f"Keys are fetched by {algorithms} from CONVERSATIONS_JWT_JWKS_URL.")
    try:
        keys_from(config.jwt_key, config.jwt_algorithms, lenient=False)
    except ConfigurationError as error:
        return Finding("JWT key", WARN if is_lenient(app) else FAIL, str(error))
    if app.secret_key and app.secret_key in _texts(config.jwt_key):
        return Finding(
            "JWT key", WARN, "It is the SECRET_KEY too: a leak of one is a leak of both. Use a separate key."
        )
    return Finding("JWT key", OK, f"Long enough for {algorithms}.")


def _texts(configured: Any) -> list[Any]:
    if isinstance(configured, Mapping):
        return list(configured.values())
    return list(configured) if isinstance(configured, (list, tuple)) else [configured]


def _csrf(app: Flask, config: Config) -> Finding:
    if config.csrf == "origin":
        trusted = f", and from {', '.join(config.trusted_origins)}" if config.trusted_origins else ""
        return Finding("CSRF", OK, f"Requests with a cookie must come from this site{trusted}.")
    if config.csrf == "host":
        if "csrf" in app.extensions:
            return Finding("CSRF", OK, "The app checks itself, with Flask-WTF.")
        return Finding(
            "CSRF",
            WARN,
            "CONVERSATIONS_CSRF is 'host', so the app must check itself, and Flask-WTF's CSRFProtect is not there.",
        )
    return Finding("CSRF", WARN, "No check. That is right only if no browser sends credentials by itself.")


def _cookies(app: Flask) -> Finding:
    if app.config.get("SESSION_COOKIE_SECURE"):
        return Finding("cookies", OK, "Sent over HTTPS only.")
    return Finding(
        "cookies",
        WARN,
        "A plain http:// request carries the session. Set SESSION_COOKIE_SECURE = True where there is HTTPS.",
    )
