"""Verification keys from an address that the login server publishes (a JSON Web Key Set)."""

from __future__ import annotations

import dataclasses
import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import jwt

from ..errors import ConfigurationError, IdentityUnavailable
from .keys import ASYMMETRIC, PinnedKey

logger = logging.getLogger("flask_conversations")

FRESH = 300.0
"""Seconds after which the keys are fetched anew: a withdrawn key is accepted for at most as long."""
COOLDOWN = 30.0
"""Seconds between fetches that unknown key ids may cause: a client can make up any number of key ids."""
PAUSE = 5.0
"""Seconds without another attempt after a failed one, so that not every request waits."""
TIMEOUT = 3.0


@dataclasses.dataclass(frozen=True)
class _Fetched:
    at: float
    keys: Mapping[str, PinnedKey]


class KeySet:
    """The keys at *url* by `kid`, kept for some minutes, fetched once for all threads.

    Never guesses: without current keys it raises `IdentityUnavailable` (503).
    """

    def __init__(self, url: str, algorithms: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=TIMEOUT)
        self._algorithms = algorithms
        self._clock = clock
        self._fetching = threading.Lock()
        self._fetched: _Fetched | None = None
        self._paused_until = float("-inf")

    def find(self, kid: str | None) -> Sequence[PinnedKey]:
        """The key with this *kid*; a token without one is only accepted where there is one key."""
        keys = self._keys(FRESH)
        if kid is None:
            return list(keys.values()) if len(keys) == 1 else []
        if kid not in keys:
            keys = self._keys(COOLDOWN)
        return [keys[kid]] if kid in keys else []

    def _keys(self, max_age: float) -> Mapping[str, PinnedKey]:
        known = self._known(max_age)
        if known is not None:
            return known
        with self._fetching:
            known = self._known(max_age)  # another thread may have fetched them while this one waited
            return self._fetch() if known is None else known

    def _known(self, max_age: float) -> Mapping[str, PinnedKey] | None:
        fetched = self._fetched
        if fetched is None or self._clock() - fetched.at >= max_age:
            return None
        return fetched.keys

    def _fetch(self) -> Mapping[str, PinnedKey]:
        if self._clock() < self._paused_until:
            raise IdentityUnavailable
        try:
            found = self._client.get_signing_keys()
        except (jwt.PyJWTError, OSError, ValueError, RecursionError) as error:
            self._paused_until = self._clock() + PAUSE
            logger.warning("The keys of CONVERSATIONS_JWT_JWKS_URL cannot be fetched: %s", error)
            raise IdentityUnavailable from error
        self._fetched = _Fetched(self._clock(), self._pinned(found))
        return self._fetched.keys

    def _pinned(self, found: Sequence[jwt.PyJWK]) -> Mapping[str, PinnedKey]:
        # a key is for the one algorithm that it names; a shared secret must not be in a public list
        return {
            key.key_id: PinnedKey({key.algorithm_name: key.key})
            for key in found
            if key.key_id and key.algorithm_name in self._algorithms and key.algorithm_name in ASYMMETRIC
        }


def check_address(url: str, algorithms: Sequence[str], *, lenient: bool) -> None:
    """Raise `ConfigurationError` for an address without TLS, or for algorithms with secrets."""
    if not all(name in ASYMMETRIC for name in algorithms):
        raise ConfigurationError(
            f"CONVERSATIONS_JWT_JWKS_URL gives public keys, but CONVERSATIONS_JWT_ALGORITHMS is {list(algorithms)!r}."
            " Set it to the algorithms of the login server, for example RS256 or ES256."
        )
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigurationError(f"CONVERSATIONS_JWT_JWKS_URL is {url!r}, but must be an https address.")
    if address.scheme == "http" and not lenient and not _is_this_machine(address.hostname):
        raise ConfigurationError(
            "CONVERSATIONS_JWT_JWKS_URL must be https: over http any host on the way can send keys."
        )


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
