"""The keys that may verify a token, each pinned to the algorithms it may be used with."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import jwt

from ..errors import ConfigurationError

logger = logging.getLogger("flask_conversations")

SYMMETRIC = MappingProxyType({"HS256": 32, "HS384": 48, "HS512": 64})
"""The shared-secret algorithms, with the bytes of their hash: the minimum for a key."""
ASYMMETRIC = frozenset(
    {f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)} | {"ES256K", "EdDSA"}
)

MAKE_A_KEY = "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'"


@dataclasses.dataclass(frozen=True, repr=False)
class PinnedKey:
    """A key as PyJWT wants it, by the algorithm it may verify; for any other algorithm it does not exist."""

    by_algorithm: Mapping[str, Any]


class Keys(Protocol):
    """Finds the keys that a token with this `kid` may have been signed with."""

    def find(self, kid: str | None) -> Sequence[PinnedKey]: ...


@dataclasses.dataclass(frozen=True, repr=False)
class KeyList:
    """One key, or several during a rotation: each is tried, and the token's `kid` is ignored."""

    keys: Sequence[PinnedKey]

    def find(self, kid: str | None) -> Sequence[PinnedKey]:
        return self.keys


@dataclasses.dataclass(frozen=True, repr=False)
class NamedKeys:
    """Keys by `kid`: a token names its key, which it may only leave out if there is no choice."""

    keys: Mapping[str, PinnedKey]

    def find(self, kid: str | None) -> Sequence[PinnedKey]:
        if kid is None:
            return list(self.keys.values()) if len(self.keys) == 1 else []
        return [self.keys[kid]] if kid in self.keys else []


def check_algorithms(algorithms: Sequence[str]) -> None:
    """Raise `ConfigurationError` for an allow-list that allows nothing, anything, or two kinds of keys at once."""
    unknown = [name for name in algorithms if name not in SYMMETRIC and name not in ASYMMETRIC]
    if not algorithms or unknown:
        raise ConfigurationError(
            f"CONVERSATIONS_JWT_ALGORITHMS is {list(algorithms)!r}, but must name some of"
            f" {', '.join([*SYMMETRIC, *sorted(ASYMMETRIC)])}. A token without signature is never accepted."
        )
    if any(name in SYMMETRIC for name in algorithms) and any(name in ASYMMETRIC for name in algorithms):
        raise ConfigurationError(
            f"CONVERSATIONS_JWT_ALGORITHMS mixes shared secrets and public keys: {list(algorithms)!r}. Then a public key"
            " could pass for a secret. Use two JWTIdentity in a ChainIdentity."
        )
    for name in algorithms:
        try:
            jwt.get_algorithm_by_name(name)
        except NotImplementedError:
            raise ConfigurationError(f"{name} needs: pip install 'flask-conversations[crypto]'") from None


def keys_from(configured: Any, algorithms: Sequence[str], *, lenient: bool) -> Keys:
    """One key, a list of keys or a mapping by `kid`, checked and pinned.

    Raises `ConfigurationError` for invalid keys, and for weak keys unless *lenient*.
    """
    if isinstance(configured, Mapping):
        if not configured or not all(isinstance(kid, str) and kid for kid in configured):
            raise ConfigurationError("CONVERSATIONS_JWT_KEY is a mapping, but not one from key ids to keys.")
        return NamedKeys({kid: _pinned(key, algorithms, lenient) for kid, key in configured.items()})
    keys = configured if isinstance(configured, (list, tuple)) else [configured]
    if not keys:
        raise ConfigurationError("CONVERSATIONS_JWT_KEY is an empty list: no user could log in.")
    return KeyList([_pinned(key, algorithms, lenient) for key in keys])


def _pinned(key: Any, algorithms: Sequence[str], lenient: bool) -> PinnedKey:
    if isinstance(key, (str, bytes)) and not key.strip():
        raise ConfigurationError(f"CONVERSATIONS_JWT_KEY is blank. {MAKE_A_KEY}")
    if key is None or isinstance(key, (bool, int, float)):
        raise ConfigurationError(f"CONVERSATIONS_JWT_KEY is a {type(key).__name__}, but must be text.")
    by_algorithm = {name: prepared for name in algorithms if (prepared := _prepared(key, name)) is not None}
    if not by_algorithm:
        raise ConfigurationError(
            f"CONVERSATIONS_JWT_KEY cannot verify {', '.join(algorithms)}. HS* wants a secret text, RS*, PS*, ES* and EdDSA"
            " want a public key (PEM). Set the key, or CONVERSATIONS_JWT_ALGORITHMS."
        )
    for name, prepared in by_algorithm.items():
        _check_strength(name, prepared, lenient)
    return PinnedKey(MappingProxyType(by_algorithm))


def _prepared(key: Any, algorithm: str) -> Any:
    """The key as *algorithm* uses it, None if it is of another kind: PyJWT refuses a public key as an HMAC secret."""
    try:
        prepared = jwt.get_algorithm_by_name(algorithm).prepare_key(key)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return prepared.public_key() if hasattr(prepared, "public_key") else prepared


def _check_strength(algorithm: str, key: Any, lenient: bool) -> None:
    weakness = jwt.get_algorithm_by_name(algorithm).check_key_length(key)
    if weakness is None:
        return
    if algorithm in SYMMETRIC:
        weakness = (
            f"CONVERSATIONS_JWT_KEY has {len(key)} bytes, but {algorithm} needs {SYMMETRIC[algorithm]}. {MAKE_A_KEY}"
        )
    if not lenient:
        raise ConfigurationError(f"{weakness} (Debug and testing apps may start with it.)")
    logger.warning("%s (Outside debug and testing this app would not start.)", weakness)
