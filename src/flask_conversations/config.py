"""Every setting of the extension: its type, its default and the sentence that explains it."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import ConfigurationError

PREFIX = "CONVERSATIONS_"


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one app. A field `cache_limit` is the key `CONVERSATIONS_CACHE_LIMIT`."""

    # -- where things are ---------------------------------------------------------------------------------------------
    database_url: str | None = None
    """Database of a host app without Flask-SQLAlchemy of its own; SQLite in the instance folder if unset."""
    bind_key: str | None = None
    """The Flask-SQLAlchemy bind that holds the tables; the default database if unset."""
    table_prefix: str = ""
    """Put before every table name, for hosts that own tables of the same names."""
    schema: str | None = None
    """PostgreSQL schema of the tables."""
    lock_timeout: float = 5.0
    """Seconds a call waits for a row or database lock before it gives up with StorageUnavailable."""
    conversation_model: Any = None
    """The host's own conversation class: a mapped subclass of `ConversationMixin`, or a plain mixin with further columns."""
    message_model: Any = None
    """The host's own message class, likewise on `MessageMixin`."""
    user_foreign_key: str | None = None
    """Column that `conversations.user_id` refers to, as `users.id`; it must hold text. Deleting the user deletes the rows."""
    org_foreign_key: str | None = None
    """Column that `conversations.org_id` refers to, likewise."""
    session_options: Any = None
    """Options of the session of a database that the extension makes itself, as a dict for `SQLAlchemy(session_options=...)`."""
    sqlite_wal: bool = True
    """Switch SQLite files to write-ahead logging, so that readers and the writer do not block each other."""
    autocommit: bool = True
    """Commit at the end of each call; False leaves the commit to the host."""

    # -- cache --------------------------------------------------------------------------------------------------------
    redis_url: str | None = None
    """Redis or Valkey that caches the newest messages (REDIS_URL); one server, Sentinel or a cluster, see the how-to on Redis."""
    cache: Any = None
    """A Redis client to use instead of `redis_url`; False for no cache, even with a URL."""
    cache_limit: int = 15
    """Messages of a conversation that are cached (REDIS_CACHE_LIMIT)."""
    cache_ttl: int = 3600
    """Seconds that a conversation stays cached after it was last written or filled (REDIS_CACHE_TTL)."""
    cache_prefix: str = ""
    """Put before every key, for apps that share a Redis."""
    cache_max_staleness: float = 30.0
    """Seconds after which cached messages are read from the database again, also if Redis calls them current."""
    cache_strict: bool = False
    """Check every cached answer against the database with one lookup by primary key."""
    redis_timeout: float = 0.1
    """Seconds that one step of a call to Redis may take: a connection, an answer."""

    # -- HTTP ---------------------------------------------------------------------------------------------------------
    register_blueprint: bool = True
    """Mount the REST API in init_app."""
    url_prefix: str = "/api"
    """Where the REST API is mounted."""
    resource: str = "conversations"
    """The path segment of the collection."""
    json_case: str = "snake"
    """Spelling of JSON keys and query parameters: `snake` or `camel`."""
    client_roles: Sequence[str] = ("user", "assistant")
    """Roles that a client may write over HTTP."""
    max_request_bytes: int = 16 * 1024 * 1024
    """Largest request body in bytes."""
    foreign_status: int = 404
    """Status of another user's conversation: 404 hides that it exists, 403 admits it."""
    require_preconditions: bool = False
    """Answer 428 to a PATCH or PUT without If-Match or expected version."""
    csrf: str = "origin"
    """The check that a request with a cookie comes from this site: `origin` (ours), `host` (the app's own) or `exempt` (none)."""
    trusted_origins: Sequence[str] = ()
    """Further origins, as `https://chat.example`, that may send requests with cookies."""
    idempotency_hours: int = 24
    """How long the answer to an Idempotency-Key is kept."""
    create_limit: str | None = None
    """How often one user may create conversations over HTTP, as `10/minute;100/hour`; unlimited if unset."""
    send_limit: str | None = None
    """How often one user may send messages over HTTP, likewise. Both limits need Flask-Limiter, or the extra `limits`."""
    rate_storage: str | None = None
    """Storage of the counts without Flask-Limiter, as `redis://host/1`; by default `redis_url`, else each process counts alone."""

    # -- conversations and messages -----------------------------------------------------------------------------------
    history_limit: int = 20
    """Messages that get_conversation_history returns if no limit is given (MAX_HISTORY)."""
    trash_days: int = 30
    """Days a deleted conversation can be restored; 0 deletes at once."""
    temporary_hours: int = 24
    """Hours after its last change that a temporary conversation is kept; `prune` removes it then."""
    max_content_length: int | None = None
    """Longest message text in characters; unlimited if unset (over HTTP the request size limits it)."""
    max_parts: int | None = 1000
    """Most parts, and most attachments, that one message may be saved with; unlimited if None."""
    token_counter: Callable[[str], int] | str | None = None
    """Counts the tokens of a text for `max_tokens`: a callable or its import path; an estimate if unset."""
    titler: Callable[..., str | None] | str | None = None
    """Improves the title made from the first user message, after it is stored: a callable `(text) -> str | None` or its path."""
    guards: Any = ()
    """Functions that may change or refuse a message before it is stored, in order, or their import paths."""
    responder: Any = None
    """Answers the questions of the users: a callable `(turn)` or its import path; see `flask_conversations.turns`."""
    audit: bool = False
    """Write one row per call into the query log."""

    # -- turns --------------------------------------------------------------------------------------------------------
    turn_lease: float = 30.0
    """Seconds without a heartbeat of its worker after which a turn counts as dead; its answer so far is kept."""
    turn_timeout: float = 300.0
    """Seconds without output of a responder after which its turn is ended."""
    turn_queue: int = 20
    """Turns that may wait for another one in a conversation, in order; 0 answers 409 instead."""
    stream_seconds: float = 300.0
    """Seconds after which a stream of events is closed; the client resumes it."""
    stream_limit: int = 1000
    """Streams of events that one process keeps open at a time; more are answered 503, and clients poll."""

    # -- identity -----------------------------------------------------------------------------------------------------
    identity: Any = None
    """The identity resolver: a callable or its import path."""
    jwt_key: Any = None
    """Verification key of the tokens: one key, a list for rotation, or a mapping by `kid`."""
    jwt_algorithms: Sequence[str] = ("HS256",)
    """Algorithms a token may be signed with; nothing else is accepted."""
    jwt_audience: str | Sequence[str] | None = None
    """The `aud` a token must carry; required as soon as it is set."""
    jwt_issuer: str | Sequence[str] | None = None
    """The `iss` a token must carry; required as soon as it is set."""
    jwt_leeway: float = 0.0
    """Seconds by which clocks may differ, at most 30."""
    jwt_user_claim: str | Sequence[str] = "sub"
    """The claim with the user id; a list tries each in turn."""
    jwt_org_claim: str | None = None
    """The claim with the organisation, required as soon as it is set."""
    jwt_session_claim: str | None = None
    """The claim with the browser session, kept for the query log only."""
    jwt_required: Sequence[str] = ("exp", "iat")
    """Claims a token must carry besides the user claim."""
    jwt_jwks_url: str | None = None
    """Address of a JSON Web Key Set with the verification keys."""
    jwt_cookie: str | None = None
    """Cookie that carries the token where there is no Authorization header; then requests need CSRF protection."""
    guest_cookie: str = "conversations_guest"
    """Name of the cookie of AnonymousIdentity."""
    guest_days: int = 7
    """Days a guest's cookie lasts."""
    trusted_proxies: Sequence[str] = ()
    """Addresses or networks of the proxies whose headers HeaderIdentity trusts."""

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], **options: Any) -> Config:
        """Read the `CONVERSATIONS_*` keys of *mapping*; *options* given in code win.

        Raises `ConfigurationError` for unknown keys and for values out of range.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in mapping.items():
            if key.startswith(PREFIX):
                values[_field_name(key, fields)] = value
        for key, name in _UNPREFIXED_KEYS.items():
            if name not in values and mapping.get(key) is not None:
                values[name] = mapping[key]
        values.update({name: value for name, value in options.items() if value is not None})
        hints = typing.get_type_hints(cls)
        config = cls(**{name: _coerce(name, value, hints[name]) for name, value in values.items()})
        config._check()
        return config

    def _check(self) -> None:
        minimums = {
            "lock_timeout": 0.001,
            "max_request_bytes": 1024,
            "idempotency_hours": 24,
            "history_limit": 1,
            "trash_days": 0,
            "temporary_hours": 1,
            "jwt_leeway": 0,
            "guest_days": 1,
            "cache_limit": 1,
            "cache_ttl": 1,
            "cache_max_staleness": 0.001,
            "redis_timeout": 0.001,
            "turn_lease": 1,
            "turn_timeout": 0.1,
            "turn_queue": 0,
            "stream_seconds": 1,
            "stream_limit": 0,
        }
        for name, least in minimums.items():
            if getattr(self, name) < least:
                raise ConfigurationError(f"{_key(name)} is {getattr(self, name)!r}, but must be at least {least}.")
        for name in ("max_content_length", "max_parts"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigurationError(f"{_key(name)} must be at least 1, or unset.")
        if self.jwt_leeway > 30:
            raise ConfigurationError(f"{_key('jwt_leeway')} is {self.jwt_leeway!r}, but may be 30 seconds at most.")
        maximums = {"cache_limit": 1000, "cache_ttl": 30 * 86400, "cache_max_staleness": 86400, "redis_timeout": 60}
        maximums |= {"turn_lease": 3600, "turn_timeout": 86400, "turn_queue": 1000, "stream_seconds": 86400}
        for name, limit in maximums.items():
            if getattr(self, name) > limit:
                raise ConfigurationError(f"{_key(name)} is {getattr(self, name)!r}, but may be at most {limit}.")
        if self.redis_url is not None and not isinstance(self.redis_url, str):
            raise ConfigurationError(f"{_key('redis_url')} must be text.")
        if set(self.cache_prefix) & set("{}"):
            raise ConfigurationError(
                f"{_key('cache_prefix')} may not contain braces: they tell a cluster where a key belongs."
            )
        if self.cache is True or (isinstance(self.cache, (str, int)) and self.cache is not False):
            raise ConfigurationError(
                f"{_key('cache')} must be a Redis client, or false; an address goes into {_key('redis_url')}."
            )
        _one_of("json_case", self.json_case, ("snake", "camel"))
        _one_of("foreign_status", self.foreign_status, (403, 404))
        _one_of("csrf", self.csrf, ("origin", "host", "exempt"))
        unknown_roles = set(self.client_roles) - {"user", "assistant", "system", "tool", "developer"}
        if unknown_roles:
            raise ConfigurationError(f"{_key('client_roles')} names unknown roles: {sorted(unknown_roles)}.")
        if self.url_prefix and not self.url_prefix.startswith("/"):
            raise ConfigurationError(
                f"{_key('url_prefix')} is {self.url_prefix!r}, but must be empty or start with '/'."
            )


_UNPREFIXED_KEYS = {
    "MAX_HISTORY": "history_limit",
    "REDIS_URL": "redis_url",
    "REDIS_CACHE_LIMIT": "cache_limit",
    "REDIS_CACHE_TTL": "cache_ttl",
}
"""Keys without our prefix that hosts may have already, with the field that each sets unless our own key does."""


def _key(name: str) -> str:
    return PREFIX + name.upper()


def _field_name(key: str, fields: set[str]) -> str:
    name = key.removeprefix(PREFIX).lower()
    if name in fields:
        return name
    close = difflib.get_close_matches(name, fields, n=1)
    hint = f" Did you mean {_key(close[0])}?" if close else ""
    raise ConfigurationError(f"There is no setting {key}.{hint}")


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{_key(name)} is {value!r}, but must be one of {', '.join(map(repr, allowed))}.")


def _coerce(name: str, value: Any, hint: Any) -> Any:
    """Environment variables arrive as text: read numbers, truth values and comma lists from it; refuse the rest."""
    args = typing.get_args(hint)
    if value is None and type(None) in args:
        return None
    if hint is int or int in args:
        return _number(name, value, int)
    if hint is float:
        return _number(name, value, float)
    if hint is bool:
        return _truth(name, value)
    if hint == Sequence[str]:
        return _names(name, value)
    if name == "cache" and isinstance(value, str):
        return _truth(name, value)
    if hint is str and not isinstance(value, str):
        raise ConfigurationError(f"{_key(name)} is {value!r}, but must be text.")
    return value


def _number(name: str, value: Any, kind: type[int] | type[float]) -> Any:
    if isinstance(value, bool):
        raise ConfigurationError(f"{_key(name)} is {value!r}, but must be a number.")
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigurationError(f"{_key(name)} is {value!r}, but must be a number.") from None
    if not math.isfinite(number):
        raise ConfigurationError(f"{_key(name)} is {value!r}, but must be a finite number.")
    if kind is int and not isinstance(value, str) and number != value:
        raise ConfigurationError(f"{_key(name)} is {value!r}, but must be a whole number.")
    return number


def _truth(name: str, value: Any) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() in words:
        return words[str(value).lower()]
    raise ConfigurationError(f"{_key(name)} is {value!r}, but must be true or false.")


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(one, str) for one in value):
        raise ConfigurationError(f"{_key(name)} is {value!r}, but must be a list of names.")
    return tuple(value)
