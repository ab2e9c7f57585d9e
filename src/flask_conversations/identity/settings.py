"""The current app for resolvers: its settings, its signer, and whether it may be lenient."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast

from flask import Flask, current_app
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer

from ..config import Config
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from werkzeug.local import LocalProxy

_app = cast("LocalProxy[Flask]", current_app)


def current_config() -> Config:
    """The settings of the app that handles this request."""
    state = current_app.extensions.get("flask_conversations")
    if state is None:
        raise ConfigurationError("This app has no conversations. Call conversations.init_app(app).")
    config: Config = state.config
    return config


def current_flask_app() -> Flask:
    """The app itself instead of its proxy: fit to be a key in a mapping."""
    return _app._get_current_object()


def is_lenient(app: Flask) -> bool:
    """Whether weak keys are only warned about: while developing and testing."""
    return bool(app.debug or app.testing)


def signer(purpose: str) -> URLSafeTimedSerializer:
    """Signs for one *purpose* with the app's SECRET_KEY, and still accepts signatures of SECRET_KEY_FALLBACKS."""
    require_secret_key(current_flask_app(), purpose)
    fallbacks: list[str | bytes] = list(current_app.config.get("SECRET_KEY_FALLBACKS") or ())
    assert current_app.secret_key is not None
    return URLSafeTimedSerializer(
        [*fallbacks, current_app.secret_key],  # type: ignore[arg-type]  # itsdangerous signs with the last of mixed text and bytes
        salt=f"flask-conversations.{purpose}",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def require_secret_key(app: Flask, purpose: str) -> None:
    """Raise `ConfigurationError` if the app cannot sign anything."""
    if not app.secret_key:
        raise ConfigurationError(
            f"There is no SECRET_KEY to sign the {purpose} with. Set app.secret_key to a long random value."
        )


def keeps_session_in_cookie(app: Flask) -> bool:
    """Whether `flask.session` is Flask's own, which needs SECRET_KEY, and not kept on a server."""
    return isinstance(app.session_interface, SecureCookieSessionInterface)
