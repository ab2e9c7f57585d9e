"""Every kind of server that runs a Flask app: async views on threads, one request at a time, and Flask's own."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys

import pytest

from tests.chaos.cluster import TREE
from tests.chaos.turns import Talk, stored_parts, workers
from tests.infra import ports

from . import script
from .reader import HEADERS, HOST, ask, state_of, until

LONG = pytest.mark.long
ON_POSTGRESQL = pytest.mark.parametrize("database", ["postgresql", pytest.param("sqlite", marks=LONG)], indirect=True)
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=LONG)], indirect=True)
"""The kind of server is what is tested here, so that one database does for each in the suite."""

pytestmark = pytest.mark.slow

TEXT = "".join(script.words(40))


@pytest.fixture
def ada(make_app):
    app = make_app(CONVERSATIONS_CACHE=False)
    return app.conversations.as_user("ada", app=app)


def listen(server_port, path, body, *, stop_after=None):
    """The text that comes, all of it or so many bytes."""
    connection = http.client.HTTPConnection(HOST, server_port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", path, body, HEADERS)
        return connection.getresponse().read(stop_after).decode()


@ON_POSTGRESQL
def test_async_views_send_and_record(ada, database, tmp_path):
    """A view awaits a whole turn; another streams an asynchronous model, and a client that leaves early loses nothing."""
    with workers(tmp_path, "gthread", database.url) as server:
        chat = ada.create_conversation()["id"]
        status, reply = ask(server.port, "POST", f"/aio/{chat}", '{"words": 40}')
        assert (status, reply["state"], reply["answer"]["content"]) == (200, "idle", TEXT)
        for path in ("recorded", "recorded-async"):
            assert listen(server.port, f"/{path}/{chat}", "and?") == TEXT
            listen(server.port, f"/{path}/{chat}", "and?", stop_after=20)
        messages = until(lambda: _settled(ada, chat, 10), "all are answered")
    assert [message["content"] for message in messages[1::2]] == [TEXT] * 5
    assert {message["model"] for message in messages[3::2]} == {"m-2"}


def _settled(ada, chat, count):
    messages = ada.get_messages(chat)["messages"]
    return messages if len(messages) == count and {each["status"] for each in messages} == {"delivered"} else None


@ON_POSTGRESQL
def test_a_turn_outlives_its_request_on_a_sync_worker(ada, database, tmp_path):
    """One request at a time: the answer goes on after 202 and after a reader who has left, while others are served."""
    with workers(tmp_path, "sync", database.url) as server:
        left, lost = Talk(ada, tmp_path, pause=0.01), Talk(ada, tmp_path, pause=0.01)
        left.send_and_leave(server.port)
        assert state_of(server.port, left.conversation_id)["state"] in ("processing", "streaming", "idle")
        lost.send(server.port)
        lost.read_events(3)
        lost.reader.cut()
        for talk in (left, lost):
            until(lambda talk=talk: state_of(server.port, talk.conversation_id)["state"] == "idle", "answered")
            assert stored_parts(talk.messages[1]) == script.parts()
            assert talk.messages[1]["status"] == "delivered"


@ON_SQLITE
def test_flask_run_streams(ada, database, tmp_path):
    """Flask's own server sends a stream and answers others meanwhile."""
    port = ports.free()
    (tmp_path / "gates").mkdir()
    settings = {"HOST_SQLALCHEMY_DATABASE_URI": database.url, "HOST_GATES": str(tmp_path / "gates")}
    command = [sys.executable, "-m", "flask", "--app", "tests.servers.host", "run", "--port", str(port)]
    with open(tmp_path / "flask.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=TREE, env={**os.environ, "PYTHONPATH": str(TREE), **settings}, stdout=log, stderr=log
        )
    try:
        until(lambda: ask(port, "GET", "/pid")[0] == 200, "flask run has started")
        talk = Talk(ada, tmp_path, gate=20)
        talk.send(port)
        talk.read_events(20)
        assert state_of(port, talk.conversation_id)["state"] == "streaming"
        talk.open_gate()
        talk.reader.read_to_end()
        assert talk.reader.parts == script.parts() == stored_parts(talk.messages[1])
    finally:
        process.terminate()
        process.wait(20)
