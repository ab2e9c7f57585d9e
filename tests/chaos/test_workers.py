"""A real gunicorn: its workers are killed, its PostgreSQL is restarted, and nothing that was acknowledged is lost or doubled."""

from __future__ import annotations

import random
import time

import pytest

from tests.infra.postgresql_servers import PostgresqlServer
from tests.service.tools import check, everything, sequence

from .cluster import Clients, gunicorn

pytestmark = pytest.mark.slow


def settled(app, clients, conversations):
    """How many messages of *clients* are lost and doubled; everything else about the conversations is exact."""
    ada = app.conversations.as_user("ada", app=app)
    lost = doubled = 0
    for conversation_id in conversations:
        messages = everything(ada, conversation_id)
        stored = {message["client_id"]: message["id"] for message in messages}
        doubled += len(messages) - len({message["content"] for message in messages})
        lost += sum(
            stored.get(client_id) != message_id
            for (where, client_id), message_id in clients.acknowledged.items()
            if where == conversation_id
        )
        assert sequence(app, conversation_id) == list(range(1, len(messages) + 1))
        check(ada, conversation_id)
    return lost, doubled


def same_in_cache(make_app, plain, redis_url, conversations):
    """A worker that reads through the same Redis gets what the database has."""
    reader = make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_LOCK_TIMEOUT=10)
    cached, exact = (app.conversations.as_user("ada", app=app) for app in (reader, plain))
    for conversation_id in conversations:
        for _ in range(2):
            cached_page, true = (service.get_messages(conversation_id, limit=10) for service in (cached, exact))
            assert (cached_page["messages"], cached_page["version"]) == (true["messages"], true["version"])


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_kill_9_loses_and_doubles_nothing(make_app, database, redis_url, tmp_path, long, seed, figure):
    """Workers die at any moment, clients try again under the same client id: each message is there once, without a gap."""
    plain = make_app(CONVERSATIONS_CACHE=False)
    ada = plain.conversations.as_user("ada", app=plain)
    conversations = [ada.create_conversation()["id"] for _ in range(4)]
    kills, messages = (200, 10_000) if long else (20, 300)
    chance = random.Random(seed)
    settings = {"SQLALCHEMY_DATABASE_URI": database.url, "CONVERSATIONS_REDIS_URL": redis_url}
    with gunicorn(tmp_path, **settings) as server:
        clients = Clients(server.port, conversations)
        began = time.monotonic()
        with clients.sending():
            while server.kills < kills or len(clients.acknowledged) < messages:
                assert time.monotonic() - began < (420 if long else 60), "too slow"
                time.sleep(chance.uniform(0.05, 0.5 if server.kills < kills else 0.6))
                server.kill_one(chance)
        took = time.monotonic() - began
    lost, doubled = settled(plain, clients, conversations)
    figure(
        f"kill -9: {server.kills} kills, {len(clients.acknowledged)} acknowledged messages in {took:.0f} s: {lost} lost, "
        f"{doubled} doubled, seed {seed}; {clients.answers['connection']} tries without an answer"
    )
    assert (lost, doubled) == (0, 0)
    assert not clients.wrong
    same_in_cache(make_app, plain, redis_url, conversations)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_restarts_of_postgresql_lose_nothing(make_app, database, redis_url, tmp_path, long, figure):
    """PostgreSQL crashes under load: meanwhile 503, afterwards everything goes on, and what was acknowledged is there."""
    with PostgresqlServer() as server:
        url = server.create_database("chat")
        plain = make_app(tables=False, SQLALCHEMY_DATABASE_URI=url, CONVERSATIONS_CACHE=False)
        with plain.app_context():
            plain.db.create_all()
        ada = plain.conversations.as_user("ada", app=plain)
        conversations = [ada.create_conversation()["id"] for _ in range(4)]
        healthy = []
        settings = {"SQLALCHEMY_DATABASE_URI": url, "CONVERSATIONS_REDIS_URL": redis_url}
        with gunicorn(tmp_path, **settings) as web, Clients(web.port, conversations).sending() as clients:
            for _ in range(10 if long else 2):
                time.sleep(0.7)
                server.stop("immediate")
                time.sleep(0.3)
                server.start()
                up = time.monotonic()
                while not (clients.healthy_at and clients.healthy_at[-1] > up):
                    assert time.monotonic() - up < 30, "not healthy again"
                    time.sleep(0.01)
                healthy.append(clients.healthy_at[-1] - up)
        lost, doubled = settled(plain, clients, conversations)
        figure(
            f"PostgreSQL: {len(healthy)} immediate restarts, {len(clients.acknowledged)} acknowledged messages: {lost} lost, "
            f"{doubled} doubled; {clients.answers[503]} answers 503; healthy again within {max(healthy):.2f} s"
        )
        assert (lost, doubled) == (0, 0)
        assert not clients.wrong, clients.wrong[:3]
        assert clients.answers[503]
        same_in_cache(_on(make_app, url), plain, redis_url, conversations)
        with plain.app_context():
            plain.db.engine.dispose()


def _on(make_app, url):
    return lambda **config: make_app(tables=False, SQLALCHEMY_DATABASE_URI=url, **config)
