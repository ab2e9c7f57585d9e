"""The identity from the JSON Web Token of the request."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import jwt
from flask import Flask

from ..config import Config
from ..errors import ConfigurationError
from .base import Identity, UnsafeIdentity
from .claims import claim_names, identity_from_claims
from .jwks import KeySet, check_address
from .keys import Keys, check_algorithms, keys_from
from .settings import current_config, current_flask_app, is_lenient
from .source import note_cookie_borne
from .tokens import BadToken, check_claims, check_header, read_token, token_of_request

logger = logging.getLogger("flask_conversations")

MAX_LEEWAY = 30


class JWTIdentity:
    """The user of the `Authorization: Bearer` token, once its signature, dates, audience and issuer are verified.

    Each option overrides the `CONVERSATIONS_JWT_*` setting of the same name. Any irregular token is refused, and the request
    counts as not logged in.
    """

    knows_source: ClassVar[bool] = True
    reads_authorization: ClassVar[bool] = True

    def __init__(
        self,
        *,
        key: Any = None,
        algorithms: str | Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float | None = None,
        user_claim: str | Sequence[str] | None = None,
        org_claim: str | None = None,
        session_claim: str | None = None,
        required: str | Sequence[str] | None = None,
        jwks_url: str | None = None,
        cookie: str | None = None,
    ) -> None:
        options = {
            "jwt_key": key,
            "jwt_algorithms": algorithms if algorithms is None else claim_names(algorithms),
            "jwt_audience": audience,
            "jwt_issuer": issuer,
            "jwt_leeway": leeway,
            "jwt_user_claim": user_claim,
            "jwt_org_claim": org_claim,
            "jwt_session_claim": session_claim,
            "jwt_required": required if required is None else claim_names(required),
            "jwt_jwks_url": jwks_url,
            "jwt_cookie": cookie,
        }
        self._options = {name: value for name, value in options.items() if value is not None}
        self._verifiers: WeakKeyDictionary[Flask, _Verifier] = WeakKeyDictionary()
        self._building = threading.Lock()

    def check(self, app: Flask, config: Config) -> None:
        """Raise `ConfigurationError` unless *app* can verify tokens, and only tokens that a trusted party has signed."""
        self._verifier(app, config)

    def __call__(self) -> Identity | None:
        verifier = self._verifier(current_flask_app(), current_config())
        try:
            token, from_cookie = token_of_request(verifier.config.jwt_cookie)
            identity = None if token is None else verifier.identity(token)
        except (BadToken, UnsafeIdentity) as refusal:
            logger.debug("A token was refused. %s", refusal)
            return None
        note_cookie_borne(from_cookie)
        return identity

    def _verifier(self, app: Flask, config: Config) -> _Verifier:
        with self._building:
            verifier = self._verifiers.get(app)
            if verifier is None or verifier.made_from is not config:
                verifier = self._verifiers[app] = _Verifier(config, self._options, lenient=is_lenient(app))
            return verifier


class _Verifier:
    """The rules and the keys of one app."""

    def __init__(self, made_from: Config, options: Mapping[str, Any], *, lenient: bool) -> None:
        self.made_from = made_from
        self.config = dataclasses.replace(made_from, **options)
        self.lenient = lenient
        _check_rules(self.config)
        self.required = (*self.config.jwt_required, *_required_by_settings(self.config))
        self.keys = _keys(self.config, lenient)

    def identity(self, token: str) -> Identity:
        """The identity that *token* proves; `BadToken` or `UnsafeIdentity` if it proves none."""
        header, claims = read_token(token)
        check_header(header, self.config.jwt_algorithms)
        check_claims(claims, required=self.required, audience_is_configured=self.config.jwt_audience is not None)
        self._verify(token, header)
        return identity_from_claims(claims, self.config)

    def _verify(self, token: str, header: Mapping[str, Any]) -> None:
        algorithm = header["alg"]
        for key in self.keys.find(header.get("kid")):
            if algorithm in key.by_algorithm and self._is_signed_with(token, algorithm, key.by_algorithm[algorithm]):
                return
        raise BadToken("No key of ours has signed it, or it is not valid now, or it is meant for another audience.")

    def _is_signed_with(self, token: str, algorithm: str, key: Any) -> bool:
        try:
            jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self.config.jwt_audience,
                issuer=self.config.jwt_issuer,
                leeway=self.config.jwt_leeway,
                options={"require": list(self.required), "enforce_minimum_key_length": not self.lenient},
            )
        except (jwt.PyJWTError, ValueError, OverflowError):
            return False
        return True


def _keys(config: Config, lenient: bool) -> Keys:
    check_algorithms(config.jwt_algorithms)
    if (config.jwt_key is None) == (config.jwt_jwks_url is None):
        raise ConfigurationError(
            "JWTIdentity needs the key that tokens are verified with: set either CONVERSATIONS_JWT_KEY or"
            " CONVERSATIONS_JWT_JWKS_URL, not both."
        )
    if config.jwt_jwks_url is None:
        return keys_from(config.jwt_key, config.jwt_algorithms, lenient=lenient)
    check_address(config.jwt_jwks_url, config.jwt_algorithms, lenient=lenient)
    return KeySet(config.jwt_jwks_url, config.jwt_algorithms)


def _check_rules(config: Config) -> None:
    if not 0 <= config.jwt_leeway <= MAX_LEEWAY:
        raise ConfigurationError(
            f"CONVERSATIONS_JWT_LEEWAY is {config.jwt_leeway!r}, but must be 0 to {MAX_LEEWAY} seconds."
        )
    for name in ("jwt_audience", "jwt_issuer", "jwt_user_claim", "jwt_org_claim", "jwt_session_claim", "jwt_cookie"):
        value = getattr(config, name)
        if value is not None and not _is_named(value):
            raise ConfigurationError(f"CONVERSATIONS_{name.upper()} is {value!r}, but must be text that is not blank.")


def _is_named(value: Any) -> bool:
    names = claim_names(value) if isinstance(value, (str, list, tuple)) else ()
    return bool(names) and all(isinstance(name, str) and name.strip() for name in names)


def _required_by_settings(config: Config) -> tuple[str, ...]:
    users = claim_names(config.jwt_user_claim)
    return (
        *(users if len(users) == 1 else ()),
        *(("aud",) if config.jwt_audience is not None else ()),
        *(("iss",) if config.jwt_issuer is not None else ()),
        *((config.jwt_org_claim,) if config.jwt_org_claim else ()),
    )
