"""The extension object: wires models, identity, service, blueprint and commands into an app. Nothing imports it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import Blueprint, Flask, current_app, g, has_app_context
from flask_sqlalchemy import SQLAlchemy

from . import api, cli, database, migrations, transaction
from .config import Config
from .errors import ConfigurationError, ConversationsError
from .identity import Identity
from .identity.csrf import check_trusted_origins
from .identity.resolving import Resolver, load_resolver
from .models import Models, build
from .proxies import EXTENSION
from .rate_limits import RateLimits
from .service import ConversationService
from .service.guards import Guard
from .service.guards import configured as configured_guards
from .service.guards import guard as as_guard
from .service.unit_of_work import Units
from .sessions import Sessions
from .state import State
from .tables import Names

F = TypeVar("F", bound=Callable[..., Any])


class Conversations:
    """Durable, isolated conversations for one or several Flask apps.

    *db* is the host's `SQLAlchemy()`; without one, the app's own is used, or one is made on `CONVERSATIONS_DATABASE_URL` or SQLite
    in the instance folder. Every field of `Config` is also an option: `Conversations(db, identity=..., url_prefix="/api/v1")`.
    """

    def __init__(self, db: SQLAlchemy | None = None, *, app: Flask | None = None, **options: Any) -> None:
        _check_options(options)
        self._db = db
        self._options = options
        self._identity_loader: Resolver | None = None
        self._guards: list[Guard] = []
        self._responder: Callable[..., Any] | None = None
        self._models: Models | None = None
        self._app: Flask | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, db: SQLAlchemy | None = None, **options: Any) -> None:
        """Set the extension up on *app*. May come before or after `db.init_app(app)`.

        Raises `ConfigurationError` with the remedy for every mistake that is visible now.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError("Flask-Conversations is already set up on this app: call init_app once.")
        _check_options(options)
        config = Config.from_mapping(app.config, **{**self._options, **options})
        db = db or self._db or app.extensions.get("sqlalchemy")
        if db is None:
            db = self._db = database.own_database(config.session_options)
        database.attach(app, db, config)
        check_trusted_origins(config)
        resolver = load_resolver(self._identity_loader or config.identity, app, config)
        limiter = RateLimits(app, config)
        own_guards = configured_guards(config.guards or ())
        state = State(app, db, self._build(db, config), config, resolver, lambda: [*own_guards, *self._guards])
        state.limiter = limiter
        if self._responder is not None:
            state.turns.responder = self._responder
        app.extensions[EXTENSION] = state
        self._app = app if self._app in (None, app) else None
        transaction.listen()
        migrations.attach(state.models)
        app.cli.add_command(cli.commands())
        app.register_error_handler(ConversationsError, api.problem)
        app.context_processor(lambda: {"conversations_csrf_token": state.csrf_token})
        if config.register_blueprint:
            app.register_blueprint(
                self.create_blueprint(
                    url_prefix=config.url_prefix, resource=config.resource, json_case=config.json_case
                )
            )

    def _build(self, db: SQLAlchemy, config: Config) -> Models:
        names = Names(config.table_prefix, config.schema, config.user_foreign_key, config.org_foreign_key)
        metadata = database.metadata_for(db, config.bind_key)
        models = build(metadata, names, conversation=config.conversation_model, message=config.message_model)
        if self._models is not None and self._models is not models and db is self._db:
            raise ConfigurationError(
                "The models of this extension object were built with other names. Pass table_prefix, schema and bind_key to "
                "Conversations(...), or use one extension object for each choice of names."
            )
        self._models = models
        return models

    @property
    def models(self) -> Models:
        """The model classes, for a host's own queries and relationships. Built on first use or by `init_app`."""
        if has_app_context() and EXTENSION in current_app.extensions:
            return cast("Models", current_app.extensions[EXTENSION].models)
        if self._models is None:
            if self._db is None:
                raise ConfigurationError("There are no models before init_app, unless you pass db: Conversations(db).")
            self._build(self._db, Config(**self._options))
        assert self._models is not None
        return self._models

    @property
    def db(self) -> SQLAlchemy:
        """The `SQLAlchemy()` that holds the tables."""
        if has_app_context() and EXTENSION in current_app.extensions:
            return cast("SQLAlchemy", current_app.extensions[EXTENSION].db)
        if self._app is not None:
            return cast("SQLAlchemy", self._app.extensions[EXTENSION].db)
        if self._db is None:
            raise ConfigurationError("There is no db before init_app, unless you pass one: Conversations(db).")
        return self._db

    def create_blueprint(
        self,
        name: str = EXTENSION,
        resource: str = "conversations",
        url_prefix: str = "/api",
        json_case: str = "snake",
    ) -> Blueprint:
        """The REST API as a blueprint that the host registers, as often as it likes under other names and spellings."""
        return api.create_blueprint(name=name, resource=resource, url_prefix=url_prefix, json_case=json_case)

    def identity_loader(self, function: F) -> F:
        """Use *function* as the identity resolver: it returns an `Identity`, a user id, or None."""
        self._identity_loader = function
        if self._app is not None:
            state = self._app.extensions[EXTENSION]
            state.resolver = load_resolver(function, self._app, state.config)
        return function

    def get_stats(self, *, app: Flask | None = None) -> dict[str, Any]:
        """The counters of this process: `calls` (reads, writes, retries, conflicts), `turns`, `identities`, `limits`, and `cache`
        (hits, misses, refused entries, the circuit breaker; None without one). Numbers only rise until the process ends.
        """
        bound = app or (current_app if has_app_context() else self._app)
        if bound is None:
            raise ConfigurationError("There is no app here whose counters could be returned: call get_stats(app=app).")
        return cast("dict[str, Any]", bound.extensions[EXTENSION].stats())

    def check_csrf(self) -> None:
        """Raise `CsrfFailed` if the current request would change something and a foreign page could have sent it.

        For a host's own routes that take forms; the REST API checks by itself.
        """
        current_app.extensions[EXTENSION].check_csrf()

    def refresh_identity(self) -> None:
        """Call the resolver anew in this request, after a login or logout in the middle of it."""
        current_app.extensions[EXTENSION].forget()

    def guard(self, function: F) -> F:
        """Let *function* change or refuse messages before they are stored; see `service.guards`."""
        self._guards.append(as_guard(function))
        return function

    def responder(self, function: F) -> F:
        """Let *function* answer the questions of the users: see `flask_conversations.turns`. Of several the last one counts."""
        self._responder = function
        if self._app is not None:
            self._app.extensions[EXTENSION].turns.responder = function
        return function

    def require_identity(self, view: F) -> F:
        """Answer 401 to a request without identity, else set `g.identity` and go on."""

        def check() -> None:
            g.identity = current_app.extensions[EXTENSION].current_identity()

        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                check()
                return await view(*args, **kwargs)

            return cast("F", guarded)

        @functools.wraps(view)
        def checked(*args: Any, **kwargs: Any) -> Any:
            check()
            return view(*args, **kwargs)

        return cast("F", checked)

    def as_user(
        self, user_id: str | Identity, org_id: str | None = None, *, app: Flask | None = None
    ) -> ConversationService:
        """The service of one user, outside a request: worker, CLI, shell, test.

        With *app* it works without any context, from any thread. Raises `ValueError` for an invalid id.
        """
        identity = user_id if isinstance(user_id, Identity) else Identity(user_id, org_id, anonymous=_is_guest(user_id))
        return self._service(identity, app)

    def as_system(self, *, app: Flask | None = None) -> ConversationService:
        """The service of the system, for deliberate work across users: it sees every conversation and owns none."""
        return self._service(None, app)

    def sessions(
        self,
        maxlen: int | None = None,
        *,
        write: str = "database",
        read: str = "database",
        forget: bool = False,
    ) -> Sessions:
        """A durable stand-in for `SESSIONS = defaultdict(lambda: deque(maxlen=maxlen))`, for the identity that sends the request.

        Its deques show the newest *maxlen* items; the database keeps all, or with *forget* those only. *write* `both` keeps them in
        this process's memory too, and *read* chooses the half that is read: `memory` or `database`.
        """
        return Sessions(self.as_user, maxlen, write=write, read=read, forget=forget)

    def _service(self, identity: Identity | None, app: Flask | None) -> ConversationService:
        if app is None and not has_app_context():
            app = self._app
        if app is None:
            return ConversationService(Units(lambda: current_app.extensions[EXTENSION].backend, identity))
        bound = app
        return ConversationService(Units(lambda: bound.extensions[EXTENSION].backend, identity, bound))


def _is_guest(user_id: Any) -> bool:
    return isinstance(user_id, str) and user_id.startswith("guest:")


def _check_options(options: dict[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(Config)}
    for unknown in sorted(set(options) - known):
        close = difflib.get_close_matches(unknown, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigurationError(f"Conversations has no option {unknown}.{hint}")
