"""The settings of the example app. `FLASK_MAX_HISTORY=50` in the environment overrides `MAX_HISTORY`, and so on."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from flask import Flask

SQLALCHEMY_DATABASE_URI = "sqlite:///example.sqlite3"
MAX_HISTORY = 20
"""The number of messages that the responder gets, the question included."""
CONVERSATIONS_CACHE_LIMIT = MAX_HISTORY  # with a Redis: a longer history would be read from the database

SESSION_COOKIE_NAME = "example_app"  # browsers share cookies between the ports of a host
SESSION_COOKIE_SAMESITE = "Lax"
CONVERSATIONS_JWT_AUDIENCE = "example_app"
TOKEN_SECONDS = 3600

# an OpenAI-compatible endpoint; without one the built-in responder answers
OPENAI_BASE_URL = os.environ.get("OPENAI_BASE_URL")
OPENAI_API_KEY = os.environ.get("OPENAI_API_KEY")
OPENAI_MODEL = os.environ.get("OPENAI_MODEL")
OPENAI_TIMEOUT = 60.0
OPENAI_RETRIES = 3

DEMO_PAUSE = 0.03
"""Pause of the built-in responder before each word, in seconds."""


def add_keys(app: Flask) -> None:
    """Give *app* random keys where it has none, kept in its instance folder so that a login survives a restart."""
    for name in ("SECRET_KEY", "CONVERSATIONS_JWT_KEY"):
        if not app.config.get(name):
            app.config[name] = _kept(Path(app.instance_path) / name.lower())


def _kept(file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(secrets.token_urlsafe(32))
    except FileExistsError:
        pass
    return file.read_text().strip()
