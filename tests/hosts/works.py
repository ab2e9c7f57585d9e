"""What every host must be able to do, whatever kind it is."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, request

from flask_conversations.errors import NotFound


def who() -> str | None:
    """The identity of these hosts: the user that the header names."""
    return request.headers.get("X-Test-User")


def works(app: Flask, conversations: Any, url: str = "/api/conversations") -> None:
    """Two users talk, by the service and over REST, each alone; no connection stays open."""
    ada, bob = (conversations.as_user(name, app=app) for name in ("ada", "bob"))
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", "Hello")
    assert ada.get_conversation_history(chat["id"]) == [{"role": "user", "content": "Hello"}]
    with pytest.raises(NotFound):
        bob.get_conversation(chat["id"])
    client = app.test_client()
    path = f"{url}/{chat['id']}"
    assert client.get(path, headers={"X-Test-User": "ada"}).get_json()["title"] == "Hello"
    assert client.get(path, headers={"X-Test-User": "bob"}).status_code == 404
    assert client.get(path).status_code == 401
    with app.app_context():
        pools = [engine.pool for engine in conversations.db.engines.values()]
    assert [pool.checkedout() for pool in pools if hasattr(pool, "checkedout")] in ([], [0], [0, 0])


def hosted(url: str, **config: Any) -> Flask:
    """A host's app, with nothing of ours on it yet."""
    app = Flask("host")
    app.config.update(TESTING=True, SECRET_KEY="x" * 32, SQLALCHEMY_DATABASE_URI=url, **config)
    return app


def create_all(app: Flask, db: Any) -> None:
    with app.app_context():
        db.create_all()


def dispose(app: Flask, db: Any) -> None:
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()
