"""Redis and PostgreSQL go away in the middle of answers: what was acknowledged is there, and no turn is stuck."""

from __future__ import annotations

import http.client
import threading
import time

import pytest

from tests.infra.postgresql_servers import PostgresqlServer
from tests.infra.redis_servers import RedisServer
from tests.servers import script
from tests.servers.reader import Refused, ask, state_of, until

from .turns import Talk, at_once, is_beginning, stored_parts, workers

pytestmark = pytest.mark.slow

WHOLE = script.parts()
TURNS = 20


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_redis_may_die_in_mid_stream(make_app, database, tmp_path, long, figure):
    """Killed, started empty, flushed and stopped while readers on another worker follow: no gap, no repeat, all delivered."""
    app = make_app(CONVERSATIONS_CACHE=False)
    ada = app.conversations.as_user("ada", app=app)
    with RedisServer() as redis:
        settings = {"CONVERSATIONS_REDIS_URL": redis.url, "CONVERSATIONS_TURN_LEASE": 30}
        with (
            workers(tmp_path / "a", "gthread", database.url, **settings) as one,
            workers(tmp_path / "b", "gthread", database.url, **settings) as two,
        ):
            for _ in range(5 if long else 1):
                talks = [Talk(ada, tmp_path / "a", pause=0.06) for _ in range(TURNS)]
                received = threading.Barrier(TURNS + 1)

                def follow(talk, received=received):
                    talk.send(one.port)
                    talk.read_events(1)
                    talk.reader.cut()
                    assert talk.reader.resume(two.port)
                    for count in (6, 12, 18, 24):
                        talk.read_events(count)
                        received.wait(60)
                    talk.reader.read_to_end()

                def break_redis(received=received):
                    for harm in (redis.kill, redis.start, lambda: redis.client().flushall(), redis.stop):
                        received.wait(60)
                        harm()

                breaking = threading.Thread(target=break_redis, daemon=True)
                breaking.start()
                at_once(talks, follow)
                breaking.join(30)
                redis.start()
                gaps, repeats = (sum(getattr(talk.reader, name) for talk in talks) for name in ("gaps", "repeats"))
                assert (gaps, repeats) == (0, 0)
                for talk in talks:
                    assert talk.reader.parts == WHOLE == stored_parts(talk.messages[1])
    figure(f"Redis killed, started, flushed, stopped under {TURNS} streams from another worker: 0 gaps, 0 repeats")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_postgresql_may_crash_in_mid_stream(make_app, tmp_path, redis_url, long, figure):
    """Turns under way go on, and are saved once it is back; a question that was acknowledged is there; none is stuck."""
    outcomes = []
    with PostgresqlServer() as server:
        url = server.create_database("chat")
        app = make_app(tables=False, SQLALCHEMY_DATABASE_URI=url, CONVERSATIONS_CACHE=False)
        with app.app_context():
            app.db.create_all()
        ada = app.conversations.as_user("ada", app=app)
        settings = {"CONVERSATIONS_REDIS_URL": redis_url, "CONVERSATIONS_TURN_LEASE": 30}
        with workers(tmp_path, "gthread", url, **settings) as web:
            for _ in range(6 if long else 1):
                talks = [Talk(ada, tmp_path, pause=0.05) for _ in range(TURNS)]
                late = [Talk(ada, tmp_path, pause=0.0) for _ in range(TURNS)]
                _crash_meanwhile(server, web, talks, late)
                outcomes += [_outcome(web, talk) for talk in talks]
                outcomes += [_outcome(web, talk) for talk in late]
        with app.app_context():
            app.db.engine.dispose()
    counts = {name: outcomes.count(name) for name in sorted(set(outcomes))}
    figure(
        f"PostgreSQL crashed under {TURNS} turns and {TURNS} that began meanwhile, {len(outcomes)} in all: {counts}, 0 stuck"
    )


def _crash_meanwhile(server, web, talks, late):
    received = threading.Barrier(len(talks) + 1)

    def listen(talk):
        talk.send(web.port)
        talk.read_events(10)
        received.wait(60)
        _read_to_end(talk, web)

    def ask_anyway(talk):
        deadline = time.monotonic() + 60
        while True:
            try:
                talk.send(web.port)
                break
            except (Refused, OSError, http.client.HTTPException):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        _read_to_end(talk, web)

    def crash():
        received.wait(60)
        server.stop("immediate")
        asking.start()
        time.sleep(0.5)  # how long it is out, not how long a caller waits
        server.start()

    asking = threading.Thread(target=lambda: at_once(late, ask_anyway), daemon=True)
    crashing = threading.Thread(target=crash, daemon=True)
    crashing.start()
    at_once(talks, listen)
    crashing.join(60)
    asking.join(60)


def _read_to_end(talk, web):
    """However often the stream breaks off; the turn may not be known while the database is out."""
    deadline = time.monotonic() + 90
    while not talk.reader.read(lambda reader: reader.done):
        assert time.monotonic() < deadline, talk.reader.received[-3:]
        try:
            if not talk.reader.resume(web.port):
                return
        except (Refused, OSError, http.client.HTTPException):
            time.sleep(0.1)


def _outcome(web, talk):
    """How the turn has ended: everything that was streamed is stored, or it says that it is not all."""
    until(lambda: state_of(web.port, talk.conversation_id)["state"] in ("idle", "failed"), "not stuck", 35)
    question, answer = talk.messages
    assert (question["client_id"], question["content"]) == (talk.client_id, talk.content)
    assert (talk.reader.gaps, talk.reader.repeats) == (0, 0)
    parts = stored_parts(answer)
    if answer["status"] == "delivered":
        assert parts == WHOLE == talk.reader.parts
    else:
        assert answer["status"] in ("interrupted", "failed")
        assert is_beginning(parts, WHOLE)
    status, saved = ask(
        web.port, "POST", f"/api/conversations/{talk.conversation_id}/messages", {"content": '{"words": 1}'}
    )
    assert (status, saved[1]["content"]) == (201, "w0 ")
    return answer["status"]
