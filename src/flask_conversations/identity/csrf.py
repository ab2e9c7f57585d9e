"""Proof that a request with a cookie was not started by a foreign page."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import NamedTuple
from urllib.parse import urlsplit

from flask import Request
from itsdangerous import BadData

from ..config import Config
from ..errors import ConfigurationError, CsrfFailed
from .base import Identity
from .guest import withhold_guest_cookie
from .resolving import Resolved
from .settings import signer

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
TOKEN_HEADERS = ("X-CSRF-Token", "X-CSRFToken")
TOKEN_HOURS = 12
PURPOSE = "CSRF token"
DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """The origin of a page: scheme, host and port."""

    scheme: str
    host: str
    port: int | None


def check_csrf(request: Request, resolved: Resolved, config: Config) -> None:
    """Raise `CsrfFailed` if a foreign page could have sent this change in the user's name."""
    if config.csrf != "origin" or not resolved.cookie_borne or request.method in SAFE_METHODS:
        return
    if not _is_proven(request, resolved.identity, config):
        withhold_guest_cookie()
        raise CsrfFailed(
            "The request carries a cookie but no proof that it comes from this site: send it from a page of this site or"
            " of a trusted origin, or with the header X-CSRF-Token."
        )


def csrf_token(identity: Identity) -> str:
    """A token that only *identity* may send as `X-CSRF-Token` within 12 hours."""
    return signer(PURPOSE).dumps(_fingerprint(identity))


def check_trusted_origins(config: Config) -> None:
    """Raise `ConfigurationError` for a trusted origin that no browser would ever send."""
    for text in config.trusted_origins:
        if parse_origin(text) is None:
            raise ConfigurationError(
                f"CONVERSATIONS_TRUSTED_ORIGINS names {text!r}, but must be like https://chat.example: scheme, host and"
                " perhaps a port, no path and no wildcard."
            )


def parse_origin(text: str) -> Origin | None:
    """Read an `Origin` header; None for `null` and for any text that is not exactly one origin."""
    try:
        parts = urlsplit(text)
        port = DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port
        origin = Origin(parts.scheme, parts.hostname or "", port)
    except ValueError:
        return None
    is_bare = f"{parts.scheme}://{parts.netloc}".lower() == text.lower() and "@" not in parts.netloc
    is_plain = text.isascii() and text.isprintable() and not set(text) & set(" *,\\%")
    return origin if origin.scheme and origin.host and is_bare and is_plain else None


def _is_proven(request: Request, identity: Identity, config: Config) -> bool:
    """The browser's own headers decide if there are any, else the token.

    A foreign `Origin` outweighs a token, which may have been stolen. `Referer` is not used: it may be cut or missing.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if origin is not None:
        return _is_trusted(origin, config) or (_is_own(origin, request) and site != "cross-site")
    # `none`: the user did it in the browser's own chrome (reload, bookmark), no page did
    if site in ("same-origin", "none"):
        return True
    return site != "cross-site" and _has_token(request, identity)


def _is_own(origin: str, request: Request) -> bool:
    return parse_origin(origin) == parse_origin(f"{request.scheme}://{request.host}") is not None


def _is_trusted(origin: str, config: Config) -> bool:
    found = parse_origin(origin)
    return found is not None and found in {parse_origin(trusted) for trusted in config.trusted_origins}


def _has_token(request: Request, identity: Identity) -> bool:
    token = next((request.headers[name] for name in TOKEN_HEADERS if name in request.headers), None)
    if token is None:
        return False
    try:
        signed = signer(PURPOSE).loads(token, max_age=TOKEN_HOURS * 3600)
    except (BadData, ConfigurationError):
        return False
    return isinstance(signed, str) and hmac.compare_digest(signed.encode(), _fingerprint(identity).encode())


def _fingerprint(identity: Identity) -> str:
    """A digest of the user instead of the id: a token may end up in a log."""
    return hashlib.sha256(json.dumps([identity.user_id, identity.org_id]).encode()).hexdigest()
