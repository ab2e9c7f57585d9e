"""The extension object: wires models, identity, service, blueprint and commands into an app. Nothing imports it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from flask import Blueprint, Flask, current_app, g, has_app_context, has_request_context, request
from flask_sqlalchemy import SQLAlchemy
from werkzeug.utils import import_string

from . import api, cli, database, migrations, transaction
from .config import Config
from .errors import ConfigurationError, ConversationsError, IdentityRequired
from .identity import Identity
from .identity.csrf import check_csrf, check_trusted_origins, csrf_token
from .identity.resolving import Resolved, Resolver, load_resolver, resolve
from .models import Models, Names, build
from .proxies import EXTENSION
from .service import ConversationService
from .service.base import Backend
from .service.guards import Guard
from .service.guards import guard as as_guard

F = TypeVar("F", bound=Callable[..., Any])

_NAMES = ("table_prefix", "schema", "bind_key")
_MODEL_OPTIONS = ("conversation_model", "message_model", "user_foreign_key", "org_foreign_key")
_OTHER_OPTIONS = ("guards", "responder", "cache", "session_options", *_MODEL_OPTIONS)


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
        self._guards: list[Any] = [as_guard(each) for each in options.get("guards") or ()]
        self._models: Models | None = None
        self._app: Flask | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, db: SQLAlchemy | None = None, **options: Any) -> None:
        """Set the extension up on *app*. May come before or after `db.init_app(app)`.

        Raises `ConfigurationError`, saying what to do, for every mistake that can be seen now.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError("Flask-Conversations is already set up on this app: call init_app once.")
        _check_options(options)
        options = {**self._options, **options}
        config = Config.from_mapping(app.config, **_only(options, {field.name for field in dataclasses.fields(Config)}))
        _refuse_later(options)
        self._db = db or self._db or app.extensions.get("sqlalchemy")
        if self._db is None:
            self._db = database.own_database(options.get("session_options"))
        database.attach(app, self._db, config)
        check_trusted_origins(config)
        resolver = load_resolver(self._identity_loader or config.identity, app, config)
        models = self._build(config, options)
        of_app = [] if "guards" in self._options else [as_guard(each) for each in options.get("guards") or ()]
        state = _State(app, self._db, models, config, resolver, lambda: [*self._guards, *of_app])
        app.extensions[EXTENSION] = state
        self._app = app if self._app in (None, app) else None
        transaction.listen(self._db.session)
        migrations.attach(models)
        app.cli.add_command(cli.commands())
        app.register_error_handler(ConversationsError, api.problem)
        app.context_processor(lambda: {"conversations_csrf_token": state.csrf_token})
        if config.register_blueprint:
            app.register_blueprint(
                self.create_blueprint(
                    url_prefix=config.url_prefix, resource=config.resource, json_case=config.json_case
                )
            )

    def _build(self, config: Config, options: dict[str, Any]) -> Models:
        assert self._db is not None
        names = Names(
            prefix=config.table_prefix,
            schema=config.schema,
            user_foreign_key=options.get("user_foreign_key"),
            org_foreign_key=options.get("org_foreign_key"),
        )
        models = build(
            database.metadata_for(self._db, config.bind_key),
            names,
            conversation=options.get("conversation_model"),
            message=options.get("message_model"),
        )
        if self._models is not None and self._models is not models:
            raise ConfigurationError(
                "The models of this extension object were built with other names. Pass table_prefix, schema and bind_key to "
                "Conversations(...), or use one extension object for each choice of names."
            )
        self._models = models
        return models

    @property
    def models(self) -> Models:
        """The model classes, for a host's own queries and relationships. Built on first use or by `init_app`."""
        if self._models is None:
            if self._db is None:
                raise ConfigurationError("There are no models before init_app, unless you pass db: Conversations(db).")
            chosen = _only(self._options, {*_NAMES})
            self._build(Config(**chosen), self._options)
        assert self._models is not None
        return self._models

    @property
    def db(self) -> SQLAlchemy:
        """The `SQLAlchemy()` that holds the tables."""
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
        """Use *function* as the identity resolver: it answers an `Identity`, a user id, or None."""
        self._identity_loader = function
        if self._app is not None:
            state = self._app.extensions[EXTENSION]
            state.resolver = load_resolver(function, self._app, state.config)
        return function

    def refresh_identity(self) -> None:
        """Ask the resolver anew in this request: for a login or logout in the middle of it."""
        current_app.extensions[EXTENSION].forget()

    def guard(self, function: F) -> F:
        """Let *function* change or refuse messages before they are stored; see `service.guards`."""
        self._guards.append(as_guard(function))
        return function

    def responder(self, function: F) -> F:
        """Turns are not part of this version: raises `ConfigurationError`."""
        _refuse_later({"responder": function})
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

        With *app* it works without any context, from any thread. Raises `ValueError` for an id that cannot name one person.
        """
        identity = user_id if isinstance(user_id, Identity) else Identity(user_id, org_id, anonymous=_is_guest(user_id))
        return self._service(identity, app)

    def as_system(self, *, app: Flask | None = None) -> ConversationService:
        """The service of nobody in particular, for deliberate work across users: it sees every conversation, and owns none."""
        return self._service(None, app)

    def _service(self, identity: Identity | None, app: Flask | None) -> ConversationService:
        if app is None and not has_app_context():
            app = self._app
        if app is None:
            return ConversationService(lambda: current_app.extensions[EXTENSION].backend, identity)
        bound = app
        return ConversationService(lambda: bound.extensions[EXTENSION].backend, identity, bound)


def _is_guest(user_id: Any) -> bool:
    return isinstance(user_id, str) and user_id.startswith("guest:")


class _State:
    """The extension on one app."""

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

    @property
    def backend(self) -> Backend:
        """Where the service of this app keeps its rows; the engine is prepared on first use."""
        if self._backend is None:
            database.prepare(self.db, self.config)
            self._backend = Backend(
                app=self.app,
                scoped_session=self.db.session,
                models=self.models,
                config=self.config,
                secrets=functools.partial(_secrets, self.app, self.config),
                titler=_callable(self.config.titler),
                token_counter=_callable(self.config.token_counter),
                guards=self._guards,
            )
        return self._backend

    def resolved(self) -> Resolved:
        """Who sent the current request: asked once, remembered on the request itself. Raises `IdentityRequired`."""
        if not has_request_context():
            raise IdentityRequired("There is no request here that an identity could come from: use as_user(...).")
        remembered = self._remembered()
        if self not in remembered:
            found = resolve(self.resolver)
            if found is None:
                raise IdentityRequired
            remembered[self] = found
        return remembered[self]

    def _remembered(self) -> dict[Any, Resolved]:
        # on the request, not on g: g belongs to an app context, which may outlive a request and serve another user's next
        return vars(request._get_current_object()).setdefault("_flask_conversations", {})  # type: ignore[attr-defined,no-any-return]

    def forget(self) -> None:
        """Forget who sent the current request."""
        self._remembered().pop(self, None)

    def current_identity(self) -> Identity:
        return self.resolved().identity

    def current_service(self) -> ConversationService:
        return ConversationService(lambda: self.backend, self.current_identity())

    def check_csrf(self) -> None:
        check_csrf(request, self.resolved(), self.config)

    def csrf_token(self) -> str:
        return csrf_token(self.current_identity())


def _secrets(app: Flask, config: Config) -> list[str]:
    """Keys that sign cursors. They protect from mistakes more than from attacks: every query filters by the owner anyway."""
    keys = [app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
    if app.secret_key is None:
        keys = [config.jwt_key] if isinstance(config.jwt_key, (str, bytes)) else ["flask-conversations"]
    return [key.decode("latin-1") if isinstance(key, bytes) else str(key) for key in keys]


def _callable(hook: Any) -> Any:
    if not isinstance(hook, str):
        return hook
    try:
        return import_string(hook)
    except ImportError as error:
        raise ConfigurationError(f"{hook!r} cannot be imported: {error}") from error


def _only(options: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in names}


def _check_options(options: dict[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(Config)} | set(_OTHER_OPTIONS)
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigurationError(f"Conversations has no option {', '.join(unknown)}.")


def _refuse_later(options: dict[str, Any]) -> None:
    if options.get("responder") is not None:
        raise ConfigurationError(
            "This version does not run turns: call your model in your own route, and save both messages."
        )


__all__ = ["Conversations"]
