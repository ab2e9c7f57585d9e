"""What the cache costs and saves: round trips counted by a proxy, SQL by the engine's own events."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ..infra.apps import client_of
from ..infra.proxy import Proxy
from ..infra.redis_servers import RedisServer
from ..infra.service import messages_json
from ..service.tools import in_use
from .tools import USER, as_user, counted, said

ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
SIZES = {"little": (1, 3), "much": (40, 120)}
"""Conversations of Ada, and messages in the one that is asked for."""


@pytest.fixture
def chat(proxied):
    """A conversation of Ada's."""
    return conversation_of(proxied, *SIZES["little"])


@pytest.fixture(params=SIZES)
def some(request, proxied):
    """A conversation of Ada's among few others, or among many."""
    return conversation_of(proxied, *SIZES[request.param])


def conversation_of(app, conversations, messages):
    ada = as_user(app)
    with ada.transaction():
        for n in range(conversations):
            ada.create_conversation(f"t {n}", messages=said("x"))
    return ada.create_conversation(messages=said(*(f"m {n}" for n in range(messages))))["id"]


@pytest.fixture
def strictly(make_app, proxy):
    """The app behind `proxy` that checks every hit."""
    return make_app(CONVERSATIONS_REDIS_URL=proxy.url, CONVERSATIONS_REDIS_TIMEOUT=5, CONVERSATIONS_CACHE_STRICT=True)


class Meter:
    """Counts what one call sends, after one that warms up scripts, statements and connections."""

    def __init__(self, app, proxy: Proxy, statements):
        self.app, self.proxy, self.statements = app, proxy, statements
        self.taken = 0
        with app.app_context():
            self.pool = app.db.engine.pool

    def __call__(self, call, *, first=None):
        (first or call)()
        checkouts = []

        def note(*_):
            checkouts.append(self.pool.checkedout())

        sa.event.listen(self.pool, "checkout", note)
        with self.statements(self.app) as seen, self.proxy.counting() as trips:
            call()
        sa.event.remove(self.pool, "checkout", note)
        assert in_use(self.app) == 0
        assert set(trips.names) <= {"EVALSHA"}
        return {"round trips": trips.round_trips, "sql": len(seen), "connections": len(checkouts)}


@pytest.fixture
def cost(proxied, proxy, statements):
    return Meter(proxied, proxy, statements)


@pytest.fixture
def strict_cost(strictly, proxy, statements):
    return Meter(strictly, proxy, statements)


CAMEL = {"CONVERSATIONS_JSON_CASE": "camel", "CONVERSATIONS_CACHE_STRICT": False}
NOTHING_BUT_REDIS = {"round trips": 1, "sql": 0, "connections": 0}

WARM = {
    "history": lambda ada, chat: ada.get_conversation_history(chat, 15),
    "history of one": lambda ada, chat: ada.get_conversation_history(chat, 1),
    "history of none": lambda ada, chat: ada.get_conversation_history(chat, 0),
    "history for Anthropic": lambda ada, chat: ada.get_conversation_history(chat, 10, format="anthropic"),
    "history for a page": lambda ada, chat: ada.get_conversation_history(chat, 10, format="ui"),
    "messages": lambda ada, chat: ada.get_messages(chat, limit=14),
    "messages as JSON": lambda ada, chat: messages_json(ada, chat, limit=14),
    "upper case": lambda ada, chat: ada.get_conversation_history(chat.upper(), 15),
}


def test_a_warm_read_is_one_round_trip_and_nothing_else(proxied, some, cost, subtests):
    """One EVALSHA: no SQL, no connection taken from the pool, ownership included, with little data or much."""
    ada = as_user(proxied)
    for name, read in WARM.items():
        with subtests.test(name):
            assert cost(lambda read=read: read(ada, some)) == NOTHING_BUT_REDIS


def test_a_strict_warm_read_is_one_round_trip_and_one_lookup(strictly, some, strict_cost, subtests):
    """One EVALSHA and one SELECT, with little data or much."""
    ada = as_user(strictly)
    for name, read in WARM.items():
        with subtests.test(name):
            assert strict_cost(lambda read=read: read(ada, some)) == {"round trips": 1, "sql": 1, "connections": 1}


def test_the_lookup_of_strict_reads_no_message(strictly, chat, strict_cost, statements):
    """What strict mode asks the database is the version, not the messages."""
    ada = as_user(strictly)
    strict_cost(lambda: ada.get_conversation_history(chat, 15))
    with statements(strictly) as seen:
        ada.get_conversation_history(chat, 15)
    assert "conversation_messages" not in seen[0]


def test_warm_over_http(proxied, chat, cost):
    """GET .../messages of a snake-case mount is the same round trip."""
    client = client_of(proxied, "ada")

    def get():
        assert client.get(f"/api/conversations/{chat}/messages?limit=10").status_code == 200

    assert cost(get) == NOTHING_BUT_REDIS


def test_warm_over_http_in_camel_case(make_app, proxy, statements):
    """A camel-case mount rewrites the answer, and asks no more for it."""
    app = make_app(CONVERSATIONS_REDIS_URL=proxy.url, CONVERSATIONS_REDIS_TIMEOUT=5, **CAMEL)
    chat = as_user(app).create_conversation(messages=said("one"))["id"]
    client = client_of(app, "ada")

    def get():
        assert client.get(f"/api/conversations/{chat}/messages?limit=10").json["messages"][0]["conversationId"] == chat

    assert Meter(app, proxy, statements)(get) == NOTHING_BUT_REDIS


def test_a_cold_read_is_two_round_trips_and_one_statement(proxied, some, cost, client):
    """READ gives the right to fill, one SELECT answers everything, POPULATE fills, with little data or much."""
    ada = as_user(proxied)

    def read():
        client.flushdb()
        ada.get_conversation_history(some, 15)

    assert cost(read) == {"round trips": 2, "sql": 1, "connections": 1}
    assert counted(proxied, "filled") >= 1


def test_a_read_of_more_than_is_kept(proxied, some, cost):
    """More than fits the entry costs a round trip on top of the statement; nobody fills the key again and again."""
    ada = as_user(proxied)
    long = len(ada.get_messages(some, limit=100)["messages"]) > 15
    assert cost(lambda: ada.get_conversation_history(some, 50)) == (
        {"round trips": 1, "sql": 1, "connections": 1} if long else NOTHING_BUT_REDIS
    )


def test_a_save_is_two_statements_and_two_round_trips(proxied, some, cost, client, subtests):
    """RESERVE before the commit, APPLY after it, on a warm or a cold key, with little data or much."""
    ada = as_user(proxied)

    def save():
        ada.save_message(some, USER, "one more")

    def save_cold():
        client.flushdb()
        save()

    for name, call in (("warm", save), ("cold", save_cold)):
        with subtests.test(name):
            found = cost(call)
            assert found["round trips"] == 2
            assert found["sql"] <= 2
            assert found["connections"] == 1


def test_a_save_over_http(proxied, chat, cost):
    """POST .../messages costs what saving costs."""
    client = client_of(proxied, "ada")
    found = cost(lambda: client.post(f"/api/conversations/{chat}/messages", json={"content": "x"}))
    assert found["round trips"] == 2
    assert found["sql"] <= 2


def test_a_transaction_of_many_saves_is_two_round_trips(proxied, chat, cost):
    """Several saves of one group are one reservation and one application, be they two or forty."""
    ada = as_user(proxied)

    def save(many):
        with ada.transaction():
            for n in range(many):
                ada.save_message(chat, USER, f"g {n}")

    assert cost(lambda: save(2))["round trips"] == 2
    assert cost(lambda: save(40))["round trips"] == 2
    assert counted(proxied, "not_applied") == 0


ELSEWHERE = {
    "list": (0, lambda ada, chat: ada.list_conversations()),
    "load": (0, lambda ada, chat: ada.load_conversations(limit=5)),
    "get": (0, lambda ada, chat: ada.get_conversation(chat)),
    "exists": (0, lambda ada, chat: ada.conversation_exists(chat)),
    "one message": (0, lambda ada, chat: ada.get_message(chat, ada.get_messages(chat, limit=1)["messages"][0]["id"])),
    "an older page": (0, lambda ada, chat: ada.get_messages(chat, before=2)),
    "rename": (2, lambda ada, chat: ada.update_conversation(chat, title="x")),
    "create": (2, lambda ada, chat: ada.create_conversation()),
    "create with messages": (2, lambda ada, chat: ada.create_conversation(messages=said("a", "b"))),
}


def test_other_calls(proxied, some, cost):
    """Lists and single rows never ask Redis, with little data or much; every change tells it twice."""
    ada = as_user(proxied)
    for name, (trips, call) in ELSEWHERE.items():
        extra = 1 if name == "one message" else 0
        assert cost(lambda: call(ada, some))["round trips"] == trips + extra, name  # noqa: B023 - called at once
    assert cost(lambda: ada.list_conversations()) == {"round trips": 0, "sql": 1, "connections": 1}


def test_a_read_by_client_id_does_not_ask_redis(proxied, cost):
    """Only the database knows which conversation a client's own id names."""
    ada = as_user(proxied)
    ada.create_conversation(id="mine", messages=said("one"))
    assert cost(lambda: ada.get_conversation_history("mine")) == {"round trips": 0, "sql": 1, "connections": 1}


def test_the_system_does_not_ask_redis(proxied, chat, cost):
    """Who may see everything has no owner's tag to show."""
    system = proxied.conversations.as_system(app=proxied)
    assert cost(lambda: system.get_conversation_history(chat, 15))["round trips"] == 0


@ON_SQLITE
def test_with_the_cache_off_nothing_is_sent_to_redis(make_app, proxy):
    """`CONVERSATIONS_CACHE = false` wins over a URL: not even a connection is made."""
    app = make_app(CONVERSATIONS_REDIS_URL=proxy.url, CONVERSATIONS_CACHE=False)
    ada = as_user(app)
    chat = ada.create_conversation(messages=said("one"))["id"]
    ada.save_message(chat, USER, "two")
    assert [one["content"] for one in ada.get_conversation_history(chat)] == ["one", "two"]
    assert (proxy.round_trips, proxy.connections) == (0, 0)


@ON_SQLITE
def test_starting_an_app_sends_nothing(make_app, proxy):
    """`init_app` reads the address and no more: the first read or write connects."""
    app = make_app(CONVERSATIONS_REDIS_URL=proxy.url)
    as_user(app).list_conversations()
    assert (proxy.round_trips, proxy.connections) == (0, 0)


@ON_SQLITE
def test_with_the_breaker_open_nobody_is_kept_waiting(make_app, proxy, uncached):
    """Once a time-out has opened the breaker of reads, they go to the database at once: no round trip, no connection."""
    app = make_app(CONVERSATIONS_REDIS_URL=proxy.url, CONVERSATIONS_REDIS_TIMEOUT=0.05)
    ada = as_user(app)
    chat = ada.create_conversation(messages=said("one"))["id"]
    with proxy.swallow(times=None):
        ada.get_conversation_history(chat)
    with proxy.counting() as seen:
        for _ in range(20):
            assert len(ada.get_conversation_history(chat)) == 1
    assert (seen.round_trips, seen.connections) == (0, 0)
    assert counted(app, "timeouts", "skipped") == [1, 20]


@ON_SQLITE
def test_the_very_first_call_sends_the_script(make_app):
    """A Redis that does not know a script yet is sent its text: one round trip more, once for all."""
    with RedisServer() as server, Proxy(server) as proxy:
        ada = as_user(make_app(CONVERSATIONS_REDIS_URL=proxy.url, CONVERSATIONS_REDIS_TIMEOUT=5))
        with proxy.counting() as seen:
            chat = ada.create_conversation(messages=said("one"))["id"]
        assert seen.names == ["EVALSHA", "EVAL", "EVALSHA", "EVAL"]
        with proxy.counting() as seen:
            ada.save_message(chat, USER, "two")
        assert seen.names == ["EVALSHA", "EVALSHA"]
