"""The identity from the login that the host app already has: Flask's session or Flask-Login."""

from __future__ import annotations

import importlib.util
import uuid
from typing import Any, ClassVar

from flask import Flask, current_app, g, request, session

from ..config import Config
from ..errors import ConfigurationError
from .base import Identity, UnsafeIdentity
from .settings import keeps_session_in_cookie, require_secret_key
from .source import has_cookie, has_explicit_authorization, note_cookie_borne


class SessionIdentity:
    """The user in `flask.session[key]`: text, put there by the host's login view. With *org_key*, both must be there."""

    knows_source: ClassVar[bool] = True

    def __init__(self, key: str = "user_id", org_key: str | None = None) -> None:
        self.key = key
        self.org_key = org_key

    def check(self, app: Flask, config: Config) -> None:
        if keeps_session_in_cookie(app):
            require_secret_key(app, "session")

    def __call__(self) -> Identity | None:
        user_id = session.get(self.key)
        if user_id is None:
            return None
        note_cookie_borne(True)
        return Identity(user_id=user_id, org_id=self._org_id())

    def _org_id(self) -> str | None:
        if self.org_key is None:
            return None
        if session.get(self.org_key) is None:
            raise UnsafeIdentity("the session names a user without an organisation.")
        org_id: str = session[self.org_key]
        return org_id


class FlaskLoginIdentity:
    """The user `flask_login.current_user`; None if that user is anonymous.

    The user id is `get_id()` as text, or *user_attribute* where `get_id()` changes with the password. With
    *org_attribute* the user must have an organisation.
    """

    knows_source: ClassVar[bool] = True

    def __init__(self, *, user_attribute: str | None = None, org_attribute: str | None = None) -> None:
        self.user_attribute = user_attribute
        self.org_attribute = org_attribute

    def check(self, app: Flask, config: Config) -> None:
        if importlib.util.find_spec("flask_login") is None:
            raise ConfigurationError("FlaskLoginIdentity needs: pip install 'flask-conversations[login]'")
        if keeps_session_in_cookie(app):
            require_secret_key(app, "session")

    def __call__(self) -> Identity | None:
        user = _current_user()
        if user is None or not user.is_authenticated:
            return None
        note_cookie_borne(_came_with_cookie())
        return Identity(user_id=self._user_id(user), org_id=self._org_id(user))

    def _user_id(self, user: Any) -> str:
        return _as_text(user.get_id() if self.user_attribute is None else getattr(user, self.user_attribute))

    def _org_id(self, user: Any) -> str | None:
        return None if self.org_attribute is None else _as_text(getattr(user, self.org_attribute))


def _current_user() -> Any:
    from flask_login import current_user  # type: ignore[import-untyped]

    if not hasattr(current_app, "login_manager"):
        raise ConfigurationError("FlaskLoginIdentity needs a login manager. Call LoginManager().init_app(app).")
    if _login_id(current_user) != session.get("_user_id"):
        # Flask-Login keeps the user on `g`, which several requests share inside an outer app_context(): ask it anew
        g.pop("_login_user", None)
    return current_user


def _login_id(user: Any) -> Any:
    """The id of *user* that Flask-Login has put in the session."""
    manager = current_app.login_manager  # type: ignore[attr-defined]  # set by Flask-Login
    return getattr(user, manager.id_attribute)() if user.is_authenticated else None


def _came_with_cookie() -> bool:
    """False only if Flask-Login had nothing but an Authorization header to go by (a `request_loader`)."""
    from flask_login import COOKIE_NAME

    remembered = current_app.config.get("REMEMBER_COOKIE_NAME", COOKIE_NAME) in request.cookies
    by_header = has_explicit_authorization() and "_user_id" not in session and not remembered
    return has_cookie() and not by_header


def _as_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, uuid.UUID)):
        raise UnsafeIdentity(f"an id of the Flask-Login user is a {type(value).__name__}.")
    return str(value)
