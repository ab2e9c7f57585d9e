"""From the answer of a resolver to an identity that safely names one user, or to None."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable
from typing import Any

from flask import Flask, current_app, request
from werkzeug.utils import import_string

from ..config import Config
from ..errors import ConfigurationError, IdentityRequired
from .base import Identity, UnsafeIdentity
from .source import ask

logger = logging.getLogger("flask_conversations")

Resolver = Callable[[], Any]
"""Called in a request: answers an `Identity`, a plain user id, or None. May have `check(app, config)` for set-up errors."""

GUEST_PREFIX = "guest:"
"""Begins the user id of every guest, and of no other user."""

ACTING_IDENTITY = "flask_conversations.testing.identity"
"""Key of the identity in a WSGI environment: set by `testing.ConversationsClient`, and out of reach of any HTTP header."""

MAX_LOGGED_REFUSALS = 50
"""Kinds of unsafe answers that are logged; more would only be noise."""


@dataclasses.dataclass(frozen=True)
class Resolved:
    """The identity, and whether a browser sends the proof of it by itself."""

    identity: Identity
    cookie_borne: bool


def resolve(resolver: Resolver) -> Resolved | None:
    """Ask *resolver* for the sender of this request; None if there is none or the result is not safe to use.

    An unsafe answer is logged once per app and kind, without the answer itself. Other errors of the resolver propagate.
    """
    if ACTING_IDENTITY in request.environ:
        acting = request.environ[ACTING_IDENTITY]
        return Resolved(acting, cookie_borne=False) if isinstance(acting, Identity) else None
    try:
        answer, cookie_borne = ask(resolver)
        return None if answer is None else Resolved(_as_identity(answer), cookie_borne)
    except IdentityRequired:
        return None
    except UnsafeIdentity as refusal:
        _log_once(str(refusal))
        return None


def load_resolver(configured: Any, app: Flask, config: Config) -> Resolver:
    """The resolver that was *configured* (itself, its class or its import path), once it has passed its own checks.

    Raises `ConfigurationError` if the app could not tell its users apart with it.
    """
    resolver = as_resolver(configured)
    check = getattr(resolver, "check", None)
    if callable(check):
        check(app, config)
    return resolver


def as_resolver(configured: Any) -> Resolver:
    """A callable from a callable, a class of callables or an import path."""
    if configured is None:
        raise ConfigurationError(
            "No identity resolver: all callers would be one user. Pass identity=JWTIdentity() or another"
            " one of flask_conversations.identity, decorate a function with @conversations.identity_loader, or set"
            " CONVERSATIONS_IDENTITY."
        )
    if isinstance(configured, str):
        configured = _imported(configured)
    if isinstance(configured, type):
        configured = _instance(configured)
    if not callable(configured):
        raise ConfigurationError(f"The identity resolver is a {type(configured).__name__}, but must be callable.")
    if inspect.iscoroutinefunction(configured) or inspect.iscoroutinefunction(type(configured).__call__):
        raise ConfigurationError("The identity resolver is a coroutine function, but must be an ordinary one.")
    resolver: Resolver = configured
    return resolver


def _as_identity(answer: Any) -> Identity:
    identity = Identity(str(answer)) if isinstance(answer, str) else answer
    if not isinstance(identity, Identity):
        raise UnsafeIdentity(f"it must be an Identity, a user id as text, or None, not {type(answer).__name__}.")
    if identity.user_id.startswith(GUEST_PREFIX) and not identity.anonymous:
        raise UnsafeIdentity(f"only guests have a user_id that begins with {GUEST_PREFIX!r}.")
    return identity


def _log_once(reason: str) -> None:
    logged: set[str] = current_app.extensions.setdefault("flask_conversations.identity_refusals", set())
    if reason not in logged and len(logged) < MAX_LOGGED_REFUSALS:
        logged.add(reason)
        logger.warning("The identity resolver's answer was refused: %s Such requests count as not logged in.", reason)


def _imported(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        raise ConfigurationError(f"The identity resolver {path!r} cannot be imported: {error}") from error


def _instance(resolver_class: type) -> Any:
    try:
        return resolver_class()
    except TypeError as error:
        raise ConfigurationError(
            f"The identity resolver is the class {resolver_class.__name__}, which needs arguments. Pass an instance."
        ) from error
