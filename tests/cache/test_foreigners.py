"""The cache and strangers: a warm entry tells nobody else anything, and nobody else can touch it."""

from __future__ import annotations

import pytest

from flask_conversations.errors import NotFound

from ..infra.apps import client_of
from ..service.tools import NEVER
from .tools import USER, as_user, assert_at_rest, counted, key, said

STRANGERS = [("bob", None), ("ada", "acme"), ("ADA", None), ("ada\u200b", None)]
QUERIES = ["", "?min_version=0", "?min_version=999999999999", "?limit=1", "?limit=100", "?after=0"]


@pytest.fixture
def app(make_app, redis_url, strict):
    return make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=strict)


@pytest.fixture
def chat(app):
    """Ada's conversation, warm."""
    chat = as_user(app).create_conversation(messages=said("secret one", "secret two"))["id"]
    as_user(app).get_conversation_history(chat)
    return chat


def test_a_warm_entry_is_nobody_elses(app, chat, stored, client, statements, subtests):
    """A stranger gets the answer and costs the statements of a conversation that does not exist; the entry stays, to the byte."""
    for user, org in STRANGERS:
        with subtests.test(user=user, org=org):
            is_nobody_elses(app, chat, stored, client, statements, as_user(app, user, org))


def is_nobody_elses(app, chat, stored, client, statements, bob):
    ada = as_user(app)
    before, expiry = stored.texts(chat), client.pttl(key(chat))
    for min_version in (None, 0, 1, 10**12):
        seen = []
        for own_id in (chat, NEVER):
            with statements(app) as sent, pytest.raises(NotFound) as refused:
                bob.get_conversation_history(own_id, min_version=min_version)
            seen.append((list(sent), str(refused.value)))
            with pytest.raises(NotFound):
                bob.get_messages(own_id, min_version=min_version)
        assert seen[0] == seen[1], "the same statements, and the same refusal"
    for attempt in (
        lambda: bob.save_message(chat, USER, "x"),
        lambda: bob.update_conversation(chat, title="x"),
        lambda: bob.pop_message(chat),
        lambda: bob.clear_conversation(chat),
        lambda: bob.replace_messages(chat, said("x")),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert not bob.delete_conversation(chat)
    assert stored.texts(chat) == before
    assert client.keys("*") == [key(chat).encode()]
    assert 0 < client.pttl(key(chat)) <= expiry
    hits = counted(app, "hits")
    assert len(ada.get_conversation_history(chat)) == 2
    assert counted(app, "hits") == hits + 1


def test_over_http(app, chat, stored, subtests):
    """Bob's answer about Ada's warm conversation and about none at all are the same but for the request's id."""
    bob = client_of(app, "bob")
    before = stored.texts(chat)
    for query in QUERIES:
        with subtests.test(query):
            answers = [
                bob.get(f"/api/conversations/{own_id}/messages{query}", headers={"X-Request-ID": "same"})
                for own_id in (chat, NEVER)
            ]
            assert answers[0].status_code == answers[1].status_code == 404
            assert answers[0].data == answers[1].data
            assert dict(answers[0].headers) == dict(answers[1].headers)
            assert b"secret" not in answers[0].data
            assert stored.texts(chat) == before


def test_a_stranger_costs_redis_what_a_missing_one_costs(make_app, proxy, statements):
    """The same round trips and the same SQL, warm or cold: how long an answer takes tells nothing either."""
    app = make_app(CONVERSATIONS_REDIS_URL=proxy.url, CONVERSATIONS_REDIS_TIMEOUT=5)
    chat = as_user(app).create_conversation(messages=said("secret"))["id"]
    bob = as_user(app, "bob")
    seen = []
    for own_id in (NEVER, chat, NEVER, chat):
        with statements(app) as sent, proxy.counting() as trips, pytest.raises(NotFound):
            bob.get_messages(own_id)
        seen.append((list(sent), [name for name in trips.names if name != "EVAL"]))
    assert seen[1:] == seen[:1] * 3


def test_a_stranger_at_a_cold_key(app, chat, stored, client, uncached):
    """Who has no right to a conversation fills no key, and does not keep its owner from filling it."""
    client.flushdb()
    for _ in range(3):
        with pytest.raises(NotFound):
            as_user(app, "bob").get_conversation_history(chat)
        assert client.keys("*") == []
    as_user(app).get_conversation_history(chat)
    assert stored.contents(chat) == ["secret two", "secret one"]
    assert_at_rest(stored, uncached)


def test_ids_that_are_none_make_no_keys(app, client):
    """Whatever is asked for, only the keys of conversations that exist come to be."""
    ada = as_user(app)
    for nonsense in (
        NEVER,
        NEVER.upper(),
        "x",
        "",
        "*",
        "conversation:{x}:messages",
        "a" * 1000,
        None,
        7,
        "{",
        "\r\nDEL",
    ):
        with pytest.raises(NotFound):
            ada.get_conversation_history(nonsense)
    assert client.keys("*") == []


def test_the_owners_entry_under_a_client_id(app, client):
    """Two users with one client id have two conversations, and two entries."""
    for user in ("ada", "bob"):
        as_user(app, user).create_conversation(id="same", messages=said(f"of {user}"))
    for user in ("ada", "bob", "ada"):
        assert [one["content"] for one in as_user(app, user).get_conversation_history("same")] == [f"of {user}"]
    assert len(client.keys("*")) == 2


def test_a_stranger_at_an_entry_that_is_too_old(app, chat, stored):
    """Bob cannot have Ada's entry replaced by asking when it is beyond the horizon."""
    aged = stored.aged(stored.texts(chat), 300)
    stored.put_back(chat, aged)
    with pytest.raises(NotFound):
        as_user(app, "bob").get_conversation_history(chat, min_version=10**9)
    assert stored.texts(chat) == aged
