"""One pool connection, many threads: no thread waits for ever, and none holds it while waiting for Redis."""

from __future__ import annotations

import threading

import pytest

from tests.infra.proxy import Proxy
from tests.service.tools import check, in_use, sequence

from .fault_injection import is_script


@pytest.fixture
def narrow(make_app, database, redis_url):
    """An app with one database connection, and the proxy before its Redis."""
    with Proxy(redis_url) as proxy:
        options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 20}
        yield (
            make_app(
                SQLALCHEMY_ENGINE_OPTIONS=options, CONVERSATIONS_REDIS_URL=proxy.url, CONVERSATIONS_REDIS_TIMEOUT=10
            ),
            proxy,
        )


def test_a_pool_of_one_connection_serves_many_threads(narrow, threads):
    """Eight threads save and read with a cache on one database connection: no deadlock, nothing lost."""
    app, _ = narrow
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()["id"]

    def work(number):
        for n in range(5):
            saved = ada.save_message(chat, "user", f"{number} {n}")
            assert ada.get_messages(chat, min_version=saved["version"])["version"] >= saved["version"]

    threads(8, work)
    assert sequence(app, chat) == list(range(1, 41))
    check(ada, chat)
    assert in_use(app) == 0


@pytest.mark.parametrize("state", ["warm", "cold"])
def test_no_connection_is_held_while_redis_is_asked(narrow, redis_url, state):
    """A read that waits for Redis leaves the database connection to others."""
    app, proxy = narrow
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation(messages=[{"role": "user", "content": "a"}])["id"]
    if state == "warm":
        ada.get_messages(chat)
    contents = []
    with proxy.hold(is_script) as held:
        reader = threading.Thread(target=lambda: contents.append(ada.get_messages(chat)["messages"][0]["content"]))
        reader.start()
        held.wait()
        assert in_use(app) == 0
        # and another caller can use it
        assert app.conversations.as_user("ada", app=app).list_conversations()["conversations"]
    reader.join(20)
    assert contents == ["a"]
