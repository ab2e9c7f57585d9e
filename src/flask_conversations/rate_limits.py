"""Limits on creating conversations and sending messages, counted by the app's Flask-Limiter, else by the package `limits`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import redis
from flask import Flask, request
from redis.backoff import NoBackoff
from redis.retry import Retry

from .config import Config
from .counters import Counters
from .errors import ConfigurationError
from .identity import Identity
from .identity.guest import is_new_guest
from .schemas import canonical

if TYPE_CHECKING:
    from limits import RateLimitItem  # type: ignore[import-not-found, unused-ignore]
    from limits.strategies import RateLimiter  # type: ignore[import-not-found, unused-ignore]

PAUSE = 1.0
"""Seconds without counting after the storage has failed: a dead one must not delay each request."""

UNREACHABLE = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)

_KINDS = {"create": "create_limit", "send": "send_limit"}
_SINGLE_REDIS = ("redis", "rediss", "unix", "redis+unix")
"""Schemes of a single Redis, whose client can be set not to retry."""

logger = logging.getLogger("flask_conversations")


class RateLimits:
    """The limits of one app.

    Raises `ConfigurationError` for an invalid limit or storage, and for a limit without the package `limits`.
    """

    def __init__(self, app: Flask, config: Config) -> None:
        self._app, self._config = app, config
        self._limits = {kind: _parsed(name, getattr(config, name)) for kind, name in _KINDS.items()}
        self._counters = Counters("allowed", "refused", "uncounted")
        self._own: RateLimiter | None = None
        self._paused_until: float | None = None
        if any(self._limits.values()) and self._hosts_limiter() is None:
            self._open_own()

    def hit(self, kind: str, identity: Identity) -> int | None:
        """Count one request of *identity*; if the limit is exceeded, the seconds until the next one is allowed.

        No request is refused while the storage does not answer, which is logged once.
        """
        items = self._limits[kind]
        if not items or not self._is_enabled():
            return None
        if self._paused_until is not None and time.monotonic() < self._paused_until:
            self._counters.add("uncounted")
            return None
        return self._hit(items, kind, identity)

    def _hit(self, items: Sequence[RateLimitItem], kind: str, identity: Identity) -> int | None:
        failures: tuple[type[Exception], ...] = UNREACHABLE
        try:
            counter, prefix = self._counter()
            failures = _failures(counter)
            wait = _wait_after_hit(counter, items, (prefix, "conversations", kind, _tag(identity)))
        except failures as error:
            self._failed(error)
            return None
        self._works()
        self._counters.add("allowed" if wait is None else "refused")
        if wait is not None and (host := self._hosts_limiter()) is not None:
            # else Flask-Limiter would replace our Retry-After with that of its own limit
            host.context.view_rate_limit = None
        return wait

    def hosts_wait(self) -> int | None:
        """If the app's own limits have refused this request, the seconds until they allow the next one."""
        host = self._hosts_limiter()
        found = host.current_limit if host is not None else None
        if host is None or found is None or not found.breached:
            return None
        try:
            return _wait(host.limiter, found.limit, found.request_args)
        except _failures(host.limiter):
            return None

    def stats(self) -> dict[str, int]:
        """How many requests were allowed, refused, or let through uncounted."""
        return self._counters.all()

    def _hosts_limiter(self) -> Any:
        """The app's Flask-Limiter, which may be set up after us; None without one."""
        hosts = self._app.extensions.get("limiter")
        return next(iter(hosts), None) if isinstance(hosts, set) else None

    def _is_enabled(self) -> bool:
        # a Flask-Limiter that was disabled before its init_app leaves no extension, only this setting
        host = self._hosts_limiter()
        return bool(self._app.config.get("RATELIMIT_ENABLED", True) if host is None else host.enabled)

    def _counter(self) -> tuple[RateLimiter, str]:
        """The limiter that counts, and the prefix of its keys."""
        host = self._hosts_limiter()
        if host is not None:
            return host.limiter, getattr(host, "_key_prefix", "")
        if self._own is None:
            self._own = _own_counter(self._config)
        return self._own, self._config.cache_prefix

    def _open_own(self) -> None:
        try:
            self._own = _own_counter(self._config)
        except UNREACHABLE as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._counters.add("uncounted")
        if self._paused_until is None:
            logger.warning(
                "Rate limits are not counted, and no request is refused, until their storage answers again: %s", error
            )
        self._paused_until = time.monotonic() + PAUSE

    def _works(self) -> None:
        if self._paused_until is not None:
            self._paused_until = None
            logger.info("Rate limits are counted again.")


def _wait_after_hit(counter: RateLimiter, items: Sequence[RateLimitItem], key: Sequence[str]) -> int | None:
    """Count a hit against every limit, or against none where one is used up; then the seconds to wait."""
    first, *others = items
    if all(counter.test(item, *key) for item in others) and all(counter.hit(item, *key) for item in (first, *others)):
        return None
    return max((_wait(counter, item, key) for item in items if not counter.test(item, *key)), default=1)


def _wait(counter: RateLimiter, item: RateLimitItem, key: Sequence[str]) -> int:
    """Whole seconds after which one more hit is within the limit."""
    reset, remaining = counter.get_window_stats(item, *key)
    if remaining > 0:
        return 1
    left = reset - time.time()
    if left <= 0:
        # a sliding window that began in this millisecond is reported to end in it
        left = item.get_expiry()
    # Redis rounds the life of a key to seconds: half a second may be missing
    return math.ceil(left + 0.5)


def _tag(identity: Identity) -> str:
    """The caller to count, as a key that does not reveal the identity.

    A guest who has no cookie yet counts by address, else leaving out the cookie would be a way around every limit.
    """
    if is_new_guest(identity):
        return canonical.fingerprint({"address": request.remote_addr})
    return canonical.fingerprint({"org": identity.org_id, "user": identity.user_id})


def _failures(counter: RateLimiter) -> tuple[type[Exception], ...]:
    """The errors of a storage that does not answer."""
    from limits.errors import StorageError

    own = counter.storage.base_exceptions
    return (*UNREACHABLE, StorageError, *(own if isinstance(own, tuple) else (own,)))


def _parsed(name: str, text: Any) -> list[RateLimitItem]:
    key = f"CONVERSATIONS_{name.upper()}"
    if text is None or text == "":
        return []
    try:
        from limits import parse_many
    except ImportError:
        raise ConfigurationError(
            f'{key} is set, but the package limits is missing: pip install "flask-conversations[limits]"'
        ) from None
    try:
        items = parse_many(text)
    except ValueError:
        items = []
    if not items or any(item.amount < 1 for item in items):
        raise ConfigurationError(f"{key} is {text!r}, but must be like '10/minute' or '10/minute;100/hour'.")
    return list(items)


def _own_counter(config: Config) -> RateLimiter:
    from limits.errors import ConfigurationError as Unusable
    from limits.storage import storage_from_string
    from limits.strategies import SlidingWindowCounterRateLimiter

    uri = _storage_uri(config)
    scheme = uri.partition("://")[0]
    uri = f"redis+{uri}" if scheme == "unix" else uri
    try:
        return SlidingWindowCounterRateLimiter(storage_from_string(uri, **_options(scheme, config.redis_timeout)))
    except (Unusable, ValueError, TypeError, NotImplementedError) as error:
        # the address may hold a password, and so may the text of the package's error
        why = f": {error}" if isinstance(error, Unusable) and "prerequisite" in str(error) else ""
        raise ConfigurationError(
            f"Rate limits cannot be counted in a storage {scheme}://...{why}. Set CONVERSATIONS_RATE_STORAGE to an address that "
            "the package limits knows, such as redis://host:6379/0 or memory://."
        ) from None


def _storage_uri(config: Config) -> str:
    if config.rate_storage:
        return config.rate_storage
    shared = config.redis_url or ""
    return shared if shared.partition("://")[0] in _SINGLE_REDIS else "memory://"


def _options(scheme: str, timeout: float) -> dict[str, Any]:
    """For Redis, short timeouts and no retries: a request whose answer is lost may have been counted."""
    if not scheme.startswith(("redis", "unix")):
        return {}
    timeouts: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    return {**timeouts, "retry": Retry(NoBackoff(), 0)} if scheme in _SINGLE_REDIS else timeouts
