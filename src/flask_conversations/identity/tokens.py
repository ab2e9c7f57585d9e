"""Read a JSON Web Token strictly, before and beside PyJWT: any irregularity is a reason to refuse it."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flask import request

MAX_TOKEN = 8 * 1024
"""Longest token that is checked; usual servers accept no longer headers, and checking megabytes costs seconds."""
MAX_KID = 256
MAX_DEPTH = 32
MAX_DIGITS = 20
MAX_TIME = 253_402_300_799
"""The end of the year 9999: a later date in a token is a mistake or a trick."""

TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
BEARER = re.compile(r"bearer +(\S+)", re.ASCII | re.IGNORECASE)
REFUSED_HEADERS = ("crit", "b64", "jwk")
"""Extensions that we do not implement, and a key that would vouch for itself. Others, as `jku` or `x5u`, are never read."""


class BadToken(Exception):
    """The token is refused."""


def token_of_request(cookie: str | None) -> tuple[str | None, bool]:
    """The token of this request, and whether it came from *cookie*.

    A request with an Authorization header is judged by that header alone: a bad header never falls back to the cookie.
    """
    header = request.headers.get("Authorization")
    if header is not None:
        return _bearer_token(header), False
    return (request.cookies.get(cookie) if cookie else None) or None, True


def read_token(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of *token*, well-formed but **not verified**."""
    if len(token) > MAX_TOKEN:
        raise BadToken("It is too long.")
    if not COMPACT.fullmatch(token):
        raise BadToken("It does not consist of three base64url parts.")
    header, claims, _ = token.split(".")
    return _json_object(header), _json_object(claims)


def check_header(header: Mapping[str, Any], algorithms: Sequence[str]) -> None:
    """Refuse a token that asks to be verified in a way that was not set up."""
    if header.get("alg") not in algorithms:
        raise BadToken("Its algorithm is not allowed.")
    if any(name in header for name in REFUSED_HEADERS):
        raise BadToken("It has a header that is not supported.")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise BadToken("It is of another type.")
    if "kid" in header and not _is_kid(header["kid"]):
        raise BadToken("Its key id is not a short text.")


def check_claims(claims: Mapping[str, Any], *, required: Sequence[str], audience_is_configured: bool) -> None:
    """Refuse claims that PyJWT lets through: dates that are no numbers, and an audience that is not ours."""
    if any(claims.get(name) is None for name in required):
        raise BadToken("It lacks a required claim.")
    if not all(_is_time(claims[name]) for name in ("exp", "iat", "nbf") if name in claims):
        raise BadToken("One of its dates is not a number of seconds.")
    if "aud" in claims and not audience_is_configured:
        raise BadToken("It is meant for some audience, but CONVERSATIONS_JWT_AUDIENCE is not set.")


def _bearer_token(header: str) -> str:
    if len(header) > MAX_TOKEN + 64:
        raise BadToken("It is too long.")
    bearer = BEARER.fullmatch(header)
    if bearer is None:
        raise BadToken("The Authorization header is not `Bearer` and one token.")
    return bearer[1]


def _is_kid(kid: Any) -> bool:
    return isinstance(kid, str) and 0 < len(kid) <= MAX_KID and kid.isprintable()


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_TIME


def _json_object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(
            _decoded(part),
            object_pairs_hook=_without_duplicates,
            parse_int=_int,
            parse_float=_float,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError):
        raise BadToken("It is not well-formed JSON.") from None
    if not isinstance(found, dict) or _is_deeper(found, MAX_DEPTH):
        raise BadToken("It is not a plain JSON object.")
    return found


def _decoded(part: str) -> str:
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        return raw.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise BadToken("It is not base64url of UTF-8.") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadToken("It has the same key twice.")  # two readers could take different ones
    return found


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise BadToken("It has a number that is too large.")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise BadToken("It has a number that is too large.")
    return number


def _no_constant(name: str) -> Any:
    raise BadToken("It has a number that is none.")


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)
