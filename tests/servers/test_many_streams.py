"""Many open streams on one worker with five database connections: they hold none, and other requests do not wait."""

from __future__ import annotations

import threading
import time

import pytest
import sqlalchemy as sa

from tests.chaos.turns import Talk, at_once, stored_parts, workers
from tests.infra import services

from .reader import ask, state_of, until
from .script import words

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database", ["postgresql"], indirect=True)]

WORDS, SAID = 12, 6
POOL = '{"pool_size": 5, "max_overflow": 0, "pool_timeout": 15}'


@pytest.fixture
def ada(make_app):
    app = make_app(CONVERSATIONS_CACHE=False)
    return app.conversations.as_user("ada", app=app)


def busy(database):
    """All connections, of the workers and of others, that are in a transaction at the moment."""
    engine = sa.create_engine(database.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    others = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
    with engine.connect() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {others}").scalar_one()


def inside(server, *, greenlets=False):
    return ask(server.port, "GET", f"/inside?greenlets={int(greenlets)}")[1]


def turn_threads(report):
    return [name for name in report["threads"] if name.startswith("turn")]


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
@pytest.mark.parametrize("streams", [50, pytest.param(200, marks=pytest.mark.long)])
def test_open_streams_hold_nothing(ada, database, tmp_path, kind, streams, figure):
    """While the model is silent no connection is taken; then each reader receives every word; afterwards all is as before."""
    services.need_module(kind if kind == "gevent" else "gunicorn")
    settings = {"SQLALCHEMY_ENGINE_OPTIONS": POOL, "CONVERSATIONS_TURN_LEASE": 30}
    with workers(tmp_path, kind, database.url, threads=streams + 30, **settings) as server:
        state_of(server.port, ada.create_conversation()["id"])
        before = inside(server, greenlets=True)
        talks = [Talk(ada, tmp_path, words=WORDS, gate=SAID, pause=0.01, poll=0.5) for _ in range(streams)]
        waiting_room = threading.BoundedSemaphore(20)

        def listen(talk):
            with waiting_room:
                talk.send(server.port)
                assert talk.reader.read(lambda reader: _text(reader) == "".join(words(SAID)))

        at_once(talks, listen)
        _look_at_silence(ada, database, server, streams, figure, kind)
        leavers, listeners = talks[: streams // 4], talks[streams // 4 :]
        for talk in leavers:
            talk.reader.cut()
        for talk in talks:
            talk.open_gate()
        at_once(listeners, lambda talk: talk.reader.read_to_end())
        for talk in listeners:
            assert (talk.reader.gaps, talk.reader.repeats, _text(talk.reader)) == (0, 0, "".join(words(WORDS)))
        for talk in talks:
            until(lambda talk=talk: talk.messages[1]["status"] == "delivered", "answered, with and without a reader")
            assert stored_parts(talk.messages[1]) == [{"type": "text", "text": "".join(words(WORDS))}]
        until(lambda: inside(server)["streams"] == 0, "every stream is closed")
        until(lambda: not turn_threads(inside(server)), "every turn has ended its thread")
        until(
            lambda: (inside(server, greenlets=True)["greenlets"] or 0) <= (before["greenlets"] or 0) + 5,
            "no greenlet is left",
        )
        after = inside(server)
    assert (after["turns"], after["connections"]) == (0, 0)


def _look_at_silence(ada, database, server, streams, figure, kind):
    until(lambda: inside(server)["connections"] == 0 and busy(database) == 0, "the last words are saved")
    began = inside(server)
    assert (began["streams"], began["turns"]) == (streams, streams)
    chat = ada.create_conversation()["id"]
    taken, seconds, start = [], [], time.monotonic()
    for _ in range(40):
        taken.append(inside(server)["connections"])
        asked = time.monotonic()
        state_of(server.port, chat)
        seconds.append(time.monotonic() - asked)
        time.sleep(0.05)
    cpu = (inside(server)["cpu"] - began["cpu"]) / (time.monotonic() - start)
    figure(
        f"{streams} streams on one {kind} worker: {sorted(taken)[len(taken) // 2]} connections held (median of {len(taken)}, "
        f"most {max(taken)}), other requests within {sorted(seconds)[-2] * 1000:.0f} ms; {cpu:.0%} of a core, 80 requests included"
    )
    assert sorted(taken)[len(taken) // 2] == 0


def _text(reader):
    return "".join(part["text"] for part in reader.parts)
