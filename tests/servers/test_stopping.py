"""A server that is stopped or reloaded in order: streams end with their answer, and a turn that cannot end says so at once."""

from __future__ import annotations

import os
import signal

import pytest

from tests.chaos.turns import Talk, at_once, stored_parts, workers
from tests.infra import services

from . import script
from .reader import state_of, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("database", ["postgresql"], indirect=True),
    pytest.mark.parametrize("kind", ["gthread", "gevent"]),
]

WHOLE = script.parts()


@pytest.fixture
def ada(make_app):
    app = make_app(CONVERSATIONS_CACHE=False)
    return app.conversations.as_user("ada", app=app)


def test_streams_end_and_turns_without_a_reader_are_marked(ada, database, tmp_path, kind):
    """Connected readers receive the rest; a turn without a reader is interrupted, with its text, when its worker exits.

    First by SIGHUP, which puts another worker in its place, then that one by SIGTERM. The lease of an hour shows that no
    reader had to wait for it.
    """
    services.need_module(kind if kind == "gevent" else "gunicorn")
    settings = {"CONVERSATIONS_TURN_LEASE": 3600, "arguments": ["--graceful-timeout", "20"]}
    with workers(tmp_path, kind, database.url, **settings) as server:
        interrupted = _stop_the_worker(ada, tmp_path, server, signal.SIGHUP)
        shown = until(lambda: state_of(server.port, interrupted[0].conversation_id), "another worker answers")
        assert (shown["state"], shown["messages"][1]["status"]) == ("idle", "interrupted")
        _stop_the_worker(ada, tmp_path, server, signal.SIGTERM)


def _stop_the_worker(ada, tmp_path, server, how):
    """Send *how* to the master while five talks have a reader and five have none; the five without."""
    connected = [Talk(ada, tmp_path, pause=0.03) for _ in range(5)]
    detached = [Talk(ada, tmp_path, pause=0.01, gate=12) for _ in range(5)]
    at_once(connected, lambda talk: (talk.send(server.port), talk.read_events(5)))
    at_once(detached, lambda talk: talk.send_and_leave(server.port))
    said = script.parts(script.SCRIPT[:12])
    for talk in detached:
        until(lambda talk=talk: len(talk.messages) == 2 and stored_parts(talk.messages[1]) == said, "so far it goes")
    (worker,) = server.workers
    os.kill(server.process.pid, how)
    at_once(connected, lambda talk: talk.reader.read_to_end())
    until(lambda: not _is_alive(worker), "the worker has gone")
    for talk in connected:
        assert talk.reader.parts == WHOLE == stored_parts(talk.messages[1])
        assert talk.messages[1]["status"] == "delivered"
    for talk in detached:
        _, answer = talk.messages
        assert answer["status"] == "interrupted"
        assert answer["metadata"]["error"]["detail"] == "The server was stopped."
        assert stored_parts(answer) == said
        assert talk.service.get_state(talk.conversation_id)["state"] == "idle"
    return detached


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
