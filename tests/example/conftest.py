"""The example app in this process, on the database of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash

from example_app import create_app, people
from example_app.extensions import db
from tests.infra.databases import Database

PASSWORDS = {name: password for name, password, *_ in people.DEMO_PEOPLE}


@pytest.fixture
def make_example(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Flask]]:
    """Makes the example app, migrated and with its two people: `make_example(MAX_HISTORY=4)`."""
    # hashed as ever, but with little work: that of the default is most of what an app and a login would take here
    monkeypatch.setattr(people, "generate_password_hash", partial(generate_password_hash, method="pbkdf2:sha256:1"))
    monkeypatch.setattr(people, "_UNKNOWN_USER_HASH", generate_password_hash("nobody", method="pbkdf2:sha256:1"))
    made: list[Flask] = []

    def make(**config: Any) -> Flask:
        no_endpoint = {"OPENAI_BASE_URL": None, "OPENAI_API_KEY": None, "OPENAI_MODEL": None, "DEMO_PAUSE": 0}
        given = {"TESTING": True, "SQLALCHEMY_DATABASE_URI": database.empty(), **no_endpoint, **config}
        app = create_app(given, instance_path=str(tmp_path / "instance"))
        made.append(app)
        with app.app_context():
            flask_migrate.upgrade()
            people.add_people()
        return app

    yield make
    for app in made:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


@pytest.fixture
def example(make_example: Callable[..., Flask]) -> Flask:
    """The example app with its own settings."""
    return make_example()


@pytest.fixture
def browser_of(example: Flask) -> Callable[[str], FlaskClient]:
    """Makes clients with a session: `browser_of("ada")`."""
    return lambda name: log_in(example, name)


def log_in(app: Flask, name: str) -> FlaskClient:
    client = app.test_client()
    answer = client.post("/login", data={"name": name, "password": PASSWORDS[name]})
    assert answer.headers["Location"] == "/"
    client.environ_base["HTTP_ORIGIN"] = "http://localhost"  # what a browser says of its own pages
    return client


def with_token(app: Flask, name: str) -> FlaskClient:
    client = app.test_client()
    answer = client.post("/login", json={"name": name, "password": PASSWORDS[name]})
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {answer.json['token']}"
    return client
