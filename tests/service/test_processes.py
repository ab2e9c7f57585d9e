"""Several worker processes on one database, and one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_conversations.errors import StorageUnavailable

from .tools import check, check_invisible, contents, everything, sequence, sql

TREE = Path(__file__).parents[2]


@pytest.fixture
def writers(database, app):
    """Starts worker processes: `writers(conversation_id, {"a": 5, "b": 9})` save so many; they wait for a line to begin."""
    started = []

    def start(conversation_id, counts):
        for name, count in counts.items():
            command = [sys.executable, "-m", "tests.service.writer", database.url, conversation_id, name, str(count)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            # all workers of an app share its cache
            cache = {"WRITER_CONVERSATIONS_REDIS_URL": app.config.get("CONVERSATIONS_REDIS_URL", "")}
            environment = {**os.environ, "PYTHONPATH": "", **cache}
            started.append(subprocess.Popen(command, cwd=TREE, env=environment, text=True, **pipes))
        for process in started:
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_share_a_conversation_and_one_is_killed(app, ada, bob, writers):
    """Of two processes that save at the same time one dies by kill -9: no message whose save had returned is lost.

    The other one saves all of its own, and leaves an exact conversation that goes on.
    """
    chat = ada.create_conversation()
    (doomed, sound) = writers(chat["id"], {"doomed": 100_000, "sound": 40})
    for process in (doomed, sound):
        go(process)
    acknowledged = {doomed: [], sound: []}
    for process in (doomed, sound):
        acknowledged[process] += [process.stdout.readline().strip() for _ in range(20)]
    doomed.send_signal(signal.SIGKILL)
    # a line that is not ended was not read by any process
    acknowledged[doomed] += doomed.stdout.read().split("\n")[:-1]
    acknowledged[sound] += sound.stdout.read().split()
    assert (sound.wait(60), len(acknowledged[sound])) == (0, 40)
    # a commit that was under way when its client died is over when the row is free
    ada.update_conversation(chat["id"], starred=True)
    stored = everything(ada, chat["id"])
    by_name = {
        name: [message["id"] for message in stored if message["content"].startswith(name)]
        for name in ("doomed", "sound")
    }
    assert by_name["sound"] == acknowledged[sound]
    assert by_name["doomed"][: len(acknowledged[doomed])] == acknowledged[doomed]
    assert len(by_name["doomed"]) - len(acknowledged[doomed]) in (0, 1)
    assert sequence(app, chat["id"]) == list(range(1, len(stored) + 1))
    check(ada, chat["id"])
    assert ada.save_message(chat["id"], "user", "after")["seq"] == len(stored) + 1
    check_invisible(bob, chat["id"])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_full_disk_is_a_clear_error(app, ada, bob):
    """When the database cannot grow, saving fails whole with a retryable error, reading goes on, and space heals it."""
    chat = ada.create_conversation(messages=[{"role": "user", "content": "a"}])
    before = ada.get_conversation(chat["id"])
    with app.app_context():
        engine = app.db.engine
    pages = sql(app, "PRAGMA page_count")[0][0]

    def cap(connection, *_):
        connection.execute(f"PRAGMA max_page_count = {pages}")

    sa.event.listen(engine, "connect", cap)
    engine.dispose()
    batch = [{"role": "user", "content": "x" * 100_000}] * 3
    for call in (
        lambda: ada.save_messages(chat["id"], batch),
        lambda: ada.save_message(chat["id"], "user", "x" * 100_000),
        lambda: bob.create_conversation(messages=batch),
    ):
        with pytest.raises(StorageUnavailable):
            call()
    assert contents(ada, chat["id"]) == ["a"]
    assert check(ada, chat["id"]) == before
    assert bob.list_conversations()["conversations"] == []
    sa.event.remove(engine, "connect", cap)
    engine.dispose()
    ada.save_messages(chat["id"], batch)
    assert check(ada, chat["id"])["message_count"] == 4


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_read_only_database_can_be_read(app, ada, database):
    """On a database that cannot be written, reads work and writes are a clear error."""
    chat = ada.create_conversation(messages=[{"role": "user", "content": "a"}])
    with app.app_context():
        engine = app.db.engine

    def only_read(connection, *_):
        connection.execute("PRAGMA query_only = ON")

    sa.event.listen(engine, "connect", only_read)
    engine.dispose()
    assert contents(ada, chat["id"]) == ["a"]
    with pytest.raises(StorageUnavailable):
        ada.save_message(chat["id"], "user", "x")
    sa.event.remove(engine, "connect", only_read)
    engine.dispose()
    check(ada, chat["id"])


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_restarted_database_is_noticed_once_at_most(database, app, ada, bob):
    """After the server has ended all connections, the next calls work: a stale connection is tried again."""
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", "a")
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    end_all = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {others}"
    with database.engine.connect() as connection:
        for seq in (2, 3):
            connection.exec_driver_sql(end_all)
            assert ada.save_message(chat["id"], "user", "b")["seq"] == seq
        connection.exec_driver_sql(end_all)
    assert contents(ada, chat["id"]) == ["a", "b", "b"]
    check_invisible(bob, chat["id"])


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_an_unreachable_database_is_a_clear_error(make_app):
    """With no server at the address every call is a retryable error, and 503 over REST."""
    app = make_app(
        tables=False, SQLALCHEMY_DATABASE_URI="postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=2"
    )
    ada = app.conversations.as_user("ada", app=app)
    for call in (ada.list_conversations, ada.create_conversation):
        with pytest.raises(StorageUnavailable):
            call()
    answer = app.test_client().get("/api/conversations", headers={"X-Test-User": "ada"})
    assert answer.status_code == 503


def test_missing_tables_say_what_to_do(make_app, database):
    """Without tables the error names the command that makes them."""
    app = make_app(tables=False, SQLALCHEMY_DATABASE_URI=database.empty())
    ada = app.conversations.as_user("ada", app=app)
    for call in (ada.list_conversations, ada.create_conversation):
        with pytest.raises(StorageUnavailable, match="flask db upgrade"):
            call()
