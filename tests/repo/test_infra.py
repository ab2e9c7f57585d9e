"""The test infrastructure itself: what its fixtures promise to all other tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_conversations.errors import NotFound
from tests.infra import services

TREE = Path(__file__).parents[2]


def test_a_stranger_sees_nothing(ada, bob):
    """Another user's conversation does not exist, not even as 403."""
    chat = ada.create_conversation("secret")
    with pytest.raises(NotFound):
        bob.get_conversation(chat["id"])


@pytest.mark.parametrize("again", [1, 2])
def test_each_test_begins_with_an_empty_database(ada, again):
    """What another test saved is gone."""
    assert ada.list_conversations()["conversations"] == []
    ada.create_conversation("left behind")


def test_layouts_do_not_mix(make_app):
    """An app with other tables works beside the usual one."""
    usual, prefixed = make_app(), make_app(CONVERSATIONS_TABLE_PREFIX="chat_")
    prefixed.conversations.as_user("ada", app=prefixed).create_conversation("only here")
    assert usual.conversations.as_user("ada", app=usual).list_conversations()["conversations"] == []


def test_a_client_is_its_user(http):
    """Requests carry the identity; those of a stranger carry none."""
    assert http("ada").get("/api/conversations").status_code == 200
    assert http(None).get("/api/conversations").status_code == 401


def test_statements_are_seen(app, ada, statements):
    """Every statement of the app is counted, also from other threads."""
    with statements(app) as seen:
        ada.list_conversations()
    assert seen


def test_threads_start_together_and_lose_no_error(threads):
    """Results come in order; an exception in a thread is an exception of the test."""
    assert threads(4, lambda i: i * i) == [0, 1, 4, 9]
    with pytest.raises(ZeroDivisionError):
        threads(2, lambda i: 1 / i)
    first, second = threads(2, lambda i: 1 / i, errors=True)
    assert isinstance(first, ZeroDivisionError)
    assert second == 1


def test_an_empty_database_has_no_tables(database):
    """A further database is there, reachable, and empty."""
    engine = sa.create_engine(database.empty())
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_redis_is_real_and_empty(redis_url):
    """A worker has a Redis database to itself."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


STARTS_AND_WAITS = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
from example_app.servers import postgresql
with postgresql() as url:
    print(url, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_does_not_outlive_its_starter(ending):
    """However the process that started PostgreSQL ends, PostgreSQL ends and its folder goes."""
    services.need("postgresql")
    environment = {name: value for name, value in os.environ.items() if name != "TEST_POSTGRESQL_URL"}
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTS_AND_WAITS], cwd=TREE, env=environment, stdout=subprocess.PIPE, text=True
    )
    folder = Path(sa.make_url(starter.stdout.readline().strip()).query["host"])
    assert (folder / ".s.PGSQL.5432").exists()
    starter.send_signal(ending)
    starter.communicate(timeout=30)
    deadline = time.monotonic() + 20
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
