"""The extensions, created once and shared by all apps of the factory."""

from __future__ import annotations

from pathlib import Path

from flask_migrate import Migrate  # type: ignore[import-untyped]
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import Conversations
from flask_conversations.identity import ChainIdentity, JWTIdentity, SessionIdentity

from . import responder

db = SQLAlchemy()
migrate = Migrate(directory=str(Path(__file__).parent / "migrations"))

# API clients send a token, the page sends Flask's session; both have the same user id
conversations = Conversations(db, identity=ChainIdentity(JWTIdentity(), SessionIdentity()), responder=responder.answer)
