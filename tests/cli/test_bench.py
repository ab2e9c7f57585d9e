"""`flask conversations bench`: it measures on the real thing, and leaves nothing of it behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from flask import Flask

from flask_conversations import signals
from flask_conversations.ops.bench import Bench

from ..service.tools import sql
from .tools import run

TINY = ("--seconds", "0.01")


def measured(app: Flask, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(app, "bench", "--json", *TINY, *arguments))
    return found


def is_empty(app: Flask) -> bool:
    return sql(app, "SELECT count(*) FROM conversations") == [(0,)]


@pytest.fixture
def cached(make_app, redis_url):
    """An app with a cache."""
    return make_app(CONVERSATIONS_CACHE=None, CONVERSATIONS_REDIS_URL=redis_url)


def test_without_a_cache_it_measures_the_database(app):
    """It says that there is no cache, and every read needs the database."""
    found = measured(app)
    assert found["cache"] is None
    assert found["simulation"]["saved_percent"] == 0
    assert "There is no cache" in run(app, "bench", *TINY)
    assert is_empty(app)


def test_with_a_cache_it_says_what_the_cache_saves(cached):
    """Warm, cold, saves, the share of reads without the database, and the bytes in Redis; limit and TTL in force."""
    found = measured(cached)
    assert {found[name]["calls"] > 0 for name in ("read", "cold", "save")} == {True}
    assert found["simulation"]["saved_percent"] >= 90
    assert 15 * 1024 < found["cache"]["bytes"] < 15 * 1024 * 2
    assert (found["cache"]["limit"], found["cache"]["ttl"]) == (15, 3600)
    said = run(cached, "bench", *TINY)
    assert "goal: below 5 ms" in said
    assert "documented: about 15,000" in said


def test_it_leaves_nothing_in_either_store(cached, redis_url):
    """The conversation and its key are gone, and nobody else's were touched."""
    with cached.app_context():
        own = cached.conversations.as_user("ada").create_conversation()["id"]
    run(cached, "bench", *TINY)
    assert len(sql(cached, "SELECT id FROM conversations")) == 1
    with redis.Redis.from_url(redis_url) as client:
        assert all(own.encode() in key for key in client.scan_iter())


def test_ctrl_c_leaves_nothing_either(cached, monkeypatch):
    """Whatever ends it, the conversation is deleted."""

    def interrupted(self: Bench) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "_save", interrupted)
    run(cached, "bench", *TINY, code=1)
    assert is_empty(cached)


def test_the_app_notices_nothing(make_app):
    """No signal, no guard, no title and no row of the query log: what is measured is no conversation of anybody's."""
    noticed: list[Any] = []
    app = make_app(CONVERSATIONS_AUDIT=True)
    app.conversations.guard(lambda message, context: noticed.append(message))

    def receiver(sender: Any, **payload: Any) -> None:
        noticed.append(payload)

    with signals.message_saved.connected_to(receiver):
        run(app, "bench", *TINY)
    assert noticed == []
    assert sql(app, "SELECT count(*) FROM conversation_query_log") == [(0,)]


def test_a_strict_cache_asks_the_database_about_every_read(make_app, redis_url):
    """And the command says so, instead of showing a share that is not the app's."""
    app = make_app(CONVERSATIONS_CACHE=None, CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=True)
    assert measured(app)["simulation"]["saved_percent"] == 0
    assert "CONVERSATIONS_CACHE_STRICT" in run(app, "bench", *TINY)


def test_more_messages_than_the_cache_keeps_come_from_the_database(cached):
    """A read of 30 says so, since the cache keeps 15."""
    assert measured(cached, "--messages", "30")["simulation"]["saved_percent"] == 0
    assert "The cache keeps 15 messages" in run(cached, "bench", *TINY, "--messages", "30")


def test_a_dead_redis_is_said(make_app):
    """It measures the database, and sends the operator to the doctor."""
    app = make_app(CONVERSATIONS_CACHE=None, CONVERSATIONS_REDIS_URL="redis://127.0.0.1:1/0")
    assert "The cache has not answered" in run(app, "bench", *TINY)


def test_where_users_must_exist_one_has_to_be_named(make_app):
    """A user made up would be refused by the foreign key: it says so before anything is written."""
    app = make_app()
    object.__setattr__(app.extensions["flask_conversations"].config, "user_foreign_key", "users.id")
    assert "--user" in run(app, "bench", *TINY, code=2)
    run(app, "bench", *TINY, "--user", "ada")
    assert is_empty(app)


def test_where_the_host_commits_it_commits_itself(make_app):
    """CONVERSATIONS_AUTOCOMMIT = False is for the host's own calls: there is nobody here who would commit."""
    app = make_app(CONVERSATIONS_AUTOCOMMIT=False)
    assert measured(app)["save"]["calls"] > 0
    assert is_empty(app)
