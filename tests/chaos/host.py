"""The small app that gunicorn serves while its workers are killed: its settings come from the environment, as `HOST_...`."""

from __future__ import annotations

import os

from flask import Flask, jsonify
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import Conversations
from tests.infra.apps import identity_from_headers


def create_app() -> Flask:
    """An app that takes its user from the header `X-Test-User`, unchecked."""
    app = Flask("host")
    app.config.update(SECRET_KEY="a key of the tests, long enough for HS256", CONVERSATIONS_LOCK_TIMEOUT=10)
    app.config.from_prefixed_env("HOST")
    db = SQLAlchemy()
    conversations = Conversations(db, identity=identity_from_headers)
    db.init_app(app)
    conversations.init_app(app)

    @app.get("/pid")
    def pid():
        return jsonify(os.getpid())

    return app
