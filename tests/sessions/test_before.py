"""The chat of the tutorial with its dict replaced in one line, and nothing else changed."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from tests.infra.databases import Database
from tests.infra.demo import TREE

BEFORE = (TREE / "example_app" / "before.py").read_text()
[DICT] = [line for line in BEFORE.splitlines() if line.startswith("SESSIONS")]
SETUP = """
from flask_conversations import Conversations
conversations = Conversations(app=app, identity=lambda: g.identity["user_id"])
"""
"""What every app needs to have conversations."""


@pytest.fixture
def begin(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Flask]]:
    """Begins a process of the chat: `begin("SESSIONS = conversations.sessions(maxlen=40)")`."""
    monkeypatch.setenv("FLASK_SECRET_KEY", "a key of the tests, long enough for HS256")
    monkeypatch.setenv("FLASK_CONVERSATIONS_DATABASE_URL", database.empty())
    begun: list[Any] = []

    def begin(line: str) -> Flask:
        module = types.ModuleType("before")
        exec(compile(BEFORE.replace(DICT, SETUP + line), "before.py", "exec", dont_inherit=True), vars(module))
        begun.append(module)
        with module.app.app_context():
            module.conversations.db.create_all()
        return module.app  # type: ignore[no-any-return]

    yield begin
    for module in begun:
        with module.app.app_context():
            module.conversations.db.engine.dispose()


def says(app: Flask, name: str, *messages: str, sid: str = "one browser") -> list[str]:
    """What the chat answers to a person in a browser."""
    client = app.test_client()
    client.set_cookie("sid", sid)
    password = {"ada": "lovelace", "bob": "builder"}[name]
    token = client.post("/login", json={"name": name, "password": password}).json["token"]
    headers = {"Authorization": f"Bearer {token}"}
    return [client.post("/chat", json={"message": each}, headers=headers).json["answer"] for each in messages]


UNKNOWN = "You have not told me your name in this conversation."


@pytest.mark.parametrize(
    ("database", "options"),
    [
        ("sqlite", ""),
        ("postgresql", ""),
        # which database it is makes no difference to memory
        ("sqlite", ", write='both'"),
        ("sqlite", ", write='both', read='memory'"),
    ],
    indirect=["database"],
)
def test_one_line_makes_it_durable(begin, options):
    """After a restart Ada's name is known; Bob in the same browser is another user."""
    line = f"SESSIONS = conversations.sessions(maxlen=2 * MAX_HISTORY{options})"
    first = begin(line)
    assert says(first, "ada", "My name is Ada.", "What is my name?")[1] == "Your name is Ada."
    assert says(first, "bob", "What is my name?") == [UNKNOWN]
    second = begin(line)
    assert says(second, "ada", "What is my name?") == ["Your name is Ada."]
    assert says(second, "ada", "What is my name?", sid="another browser") == [UNKNOWN]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_dict_forgets(begin):
    """The same story with the dict: what the line is good for."""
    first = begin(DICT)
    assert says(first, "ada", "My name is Ada.", "What is my name?")[1] == "Your name is Ada."
    assert says(first, "bob", "What is my name?") == ["Your name is Ada."]
    assert says(begin(DICT), "ada", "What is my name?") == [UNKNOWN]


def test_the_way_there_and_back(begin):
    """Hybrid, then durable, then hybrid again, each in a new process; an answer is never forgotten."""
    steps = [", write='both', read='memory'", ", write='both'", "", ", write='both'", ", write='both', read='memory'"]
    assert says(begin(f"SESSIONS = conversations.sessions(maxlen=40{steps[0]})"), "ada", "My name is Ada.")
    for options in steps:
        app = begin(f"SESSIONS = conversations.sessions(maxlen=40{options})")
        assert says(app, "ada", "What is my name?") == ["Your name is Ada."]
