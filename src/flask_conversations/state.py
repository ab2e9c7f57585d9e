"""The state of the extension on one app: its identity resolver, its backend, and the hooks of the host."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from flask import Flask, Request, has_request_context, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.pool import StaticPool
from werkzeug.utils import import_string

from . import database, transaction
from .cache import Cache, open_cache
from .config import Config
from .counters import Counters
from .errors import ConfigurationError, IdentityRequired
from .identity import Identity
from .identity.csrf import check_csrf, csrf_token
from .identity.resolving import Resolved, Resolver, resolve
from .models import Models
from .service import ConversationService
from .service.backend import Backend, ConnectionLock
from .service.guards import Guard
from .service.turns.registry import TurnRegistry
from .service.unit_of_work import Units
from .streams import open_relay

if TYPE_CHECKING:
    from werkzeug.local import LocalProxy

_request = cast("LocalProxy[Request]", request)


class Limiter(Protocol):
    """Counts the requests of each identity: see `rate_limits`."""

    def hit(self, kind: str, identity: Identity) -> int | None: ...

    def hosts_wait(self) -> int | None: ...

    def stats(self) -> dict[str, int]: ...


class State:
    """The extension on one app."""

    limiter: Limiter

    def __init__(
        self,
        app: Flask,
        db: SQLAlchemy,
        models: Models,
        config: Config,
        resolver: Resolver,
        guards: Callable[[], Sequence[Guard]],
    ) -> None:
        self.app, self.db, self.models, self.config, self.resolver = app, db, models, config, resolver
        self._guards = guards
        self._backend: Backend | None = None
        self._backend_lock = threading.RLock()
        self.cache: Cache | None = open_cache(config)
        self.calls = Counters("reads", "writes", "retries", "conflicts", "unavailable", "signals")
        self.identities = Counters("resolved", "refused")
        self.turns = TurnRegistry(self._system, open_relay(self.cache, config), _callable(config.responder))

    @property
    def backend(self) -> Backend:
        """The backend of this app's service, made on first use: the host may initialise its `db` after us."""
        return self._backend or self._shared_backend()

    def _shared_backend(self) -> Backend:
        """One backend for all threads; the first caller makes it."""
        with self._backend_lock:
            self._backend = self._backend or self._make_backend()
            return self._backend

    def _make_backend(self) -> Backend:
        engine = database.engine_of(self.db, self.config)
        transaction.watch(engine)
        shares_one_connection = isinstance(engine.pool, StaticPool)
        lock = ConnectionLock(self.config.lock_timeout) if shares_one_connection else contextlib.nullcontext()
        return Backend(
            app=self.app,
            scoped_session=self.db.session,
            models=self.models,
            config=self.config,
            secrets=functools.partial(_secrets, self.app, self.config),
            titler=_callable(self.config.titler),
            token_counter=_callable(self.config.token_counter),
            counters=self.calls,
            cache=self.cache,
            guards=self._guards,
            turns=self.turns,
            service_of=ConversationService,
            connection_lock=lock,
            shares_one_connection=shares_one_connection,
            set_up=functools.partial(database.set_up, config=self.config),
        )

    def _system(self) -> Units:
        return Units(lambda: self.backend, None, self.app)

    def stats(self) -> dict[str, Any]:
        """The counters of this process since it began: numbers and states, no contents and no names."""
        return {
            "calls": self.calls.all(),
            "turns": self.turns.stats(),
            "identities": self.identities.all(),
            "limits": self.limiter.stats(),
            "cache": None if self.cache is None else self.cache.stats(),
        }

    def resolved(self) -> Resolved:
        """The identity of the current request, resolved once and kept on the request itself. Raises `IdentityRequired`."""
        if not has_request_context():
            raise IdentityRequired("There is no request here that an identity could come from: use as_user(...).")
        remembered = self._remembered()
        if self not in remembered:
            found = resolve(self.resolver)
            self.identities.add("refused" if found is None else "resolved")
            if found is None:
                raise IdentityRequired
            remembered[self] = found
        return remembered[self]

    def _remembered(self) -> dict[Any, Resolved]:
        # on the request, not on g: g belongs to an app context, which may outlive a request and serve another user's next
        found: dict[Any, Resolved] = vars(_request._get_current_object()).setdefault("_flask_conversations", {})
        return found

    def forget(self) -> None:
        """Forget the identity of the current request."""
        self._remembered().pop(self, None)

    def current_identity(self) -> Identity:
        return self.resolved().identity

    def current_units(self) -> Units:
        """The units of work of the identity that sent the current request."""
        return Units(lambda: self.backend, self.current_identity())

    def service_for(self, identity: Identity | None) -> ConversationService:
        """The service of *identity*, with an app context of its own for each call."""
        return ConversationService(Units(lambda: self.backend, identity, self.app))

    def current_service(self) -> ConversationService:
        return ConversationService(self.current_units())

    @contextlib.contextmanager
    def request_committed(self) -> Iterator[None]:
        """Around a request to our own API: with `autocommit` off, no code of the host would commit its changes."""
        if self.config.autocommit:
            yield
            return
        session = self.backend.scoped_session
        try:
            yield
        except BaseException:
            session.rollback()
            raise
        session.commit()

    def check_csrf(self) -> None:
        check_csrf(request, self.resolved(), self.config)

    def csrf_token(self) -> str:
        return csrf_token(self.current_identity())


def _secrets(app: Flask, config: Config) -> list[str]:
    """Keys that sign cursors. They protect from mistakes more than from attacks: every query filters by the owner anyway."""
    keys = [app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
    if app.secret_key is None:
        keys = _jwt_keys(config.jwt_key) or ["flask-conversations"]
    return [key.decode("latin-1") if isinstance(key, bytes) else str(key) for key in keys]


def _jwt_keys(configured: Any) -> list[Any]:
    """The keys that are text: one, those of a list, or those of a mapping."""
    if isinstance(configured, Mapping):
        configured = list(configured.values())
    keys = configured if isinstance(configured, (list, tuple)) else [configured]
    return [key for key in keys if isinstance(key, (str, bytes)) and key]


def _callable(hook: Any) -> Any:
    if not isinstance(hook, str):
        return hook
    try:
        return import_string(hook)
    except ImportError as error:
        raise ConfigurationError(f"{hook!r} cannot be imported: {error}") from error
