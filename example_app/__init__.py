"""A small chat app with logins, a page and a chat route, whose conversations are stored by Flask-Conversations.

make demo                          # or: python -m example_app
flask --app example_app db check
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask

from . import chat, config, login, people
from .extensions import conversations, db, migrate


def create_app(given: Mapping[str, Any] | None = None, instance_path: str | None = None) -> Flask:
    """The app, set up from `config.py`, then from `FLASK_...` variables of the environment, then from *given*.

    Its database and its keys are in *instance_path*, by default the folder `instance` beside this package.
    """
    app = Flask(__name__, instance_path=instance_path)
    app.config.from_object(config)
    app.config.from_prefixed_env()
    app.config.update(given or {})
    app.config.setdefault("CONVERSATIONS_HISTORY_LIMIT", app.config["MAX_HISTORY"])
    config.add_keys(app)

    db.init_app(app)
    migrate.init_app(app, db)
    conversations.init_app(app)
    # the same API a second time, at the paths and in the JSON case that a NestJS client expects
    app.register_blueprint(
        conversations.create_blueprint(name="chatbot", url_prefix="/api/v1/chatbot", json_case="camel")
    )

    app.register_blueprint(login.bp)
    app.register_blueprint(chat.bp)
    app.cli.add_command(people.add_people_command)
    return app
