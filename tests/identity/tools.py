"""Small bare Flask apps that tell who asks, and tokens to ask with."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import jwt
from flask import Flask, jsonify, request

from flask_conversations.config import Config
from flask_conversations.errors import ConversationsError
from flask_conversations.identity.csrf import check_csrf
from flask_conversations.identity.resolving import load_resolver, resolve

KEY = "a key of more than thirty-two bytes, for tests only"
OTHER_KEY = "another key of more than thirty-two bytes, for tests"


def whoami_app(resolver: Any = None, *, strict: bool = False, app: Flask | None = None, **settings: Any) -> Flask:
    """An app whose `/whoami` answers GET and POST with the identity, 401 without one, and 403 without CSRF proof."""
    app = app or Flask(__name__)
    app.secret_key = app.secret_key or "a secret key of the test app"
    app.testing = not strict
    config = Config(**{"jwt_key": KEY, **settings})
    app.extensions["flask_conversations"] = SimpleNamespace(config=config)
    if resolver is not None:
        load_resolver(resolver, app, config)
    app.register_error_handler(ConversationsError, lambda error: (jsonify(code=error.code), error.status))

    @app.route("/whoami", methods=["GET", "POST"])
    def whoami() -> Any:
        resolved = resolve(resolver)
        if resolved is None:
            return jsonify(user_id=None), 401
        check_csrf(request, resolved, config)
        who = resolved.identity
        return jsonify(
            user_id=who.user_id,
            org_id=who.org_id,
            session_id=who.session_id,
            anonymous=who.anonymous,
            scopes=sorted(who.scopes),
            cookie_borne=resolved.cookie_borne,
        )

    return app


def who(app: Flask, token: str | None = None, **headers: str) -> dict[str, Any] | None:
    """The user that *app* takes the sender of *token* for; None without one."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    answer = app.test_client().get("/whoami", headers=headers)
    assert answer.status_code in (200, 401), answer.text
    return answer.json if answer.status_code == 200 else None


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of Ada that are good for an hour; a change to None leaves the claim out."""
    now = int(time.time())
    found = {"sub": "ada", "iat": now - 10, "exp": now + 3600, **changes}
    return {name: value for name, value in found.items() if value is not None}


def token(key: Any = KEY, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers=headers)
