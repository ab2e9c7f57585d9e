"""`min_version`, the horizon and strict mode: what is served where an entry is old, although it looks like any other."""

from __future__ import annotations

import pytest

from ..infra.apps import client_of
from ..service.tools import sql
from .tools import USER, as_user, assert_at_rest, cache_of, counted, key, said


def texts(service, conversation_id, limit=15, **options):
    return [message["content"] for message in service.get_conversation_history(conversation_id, limit, **options)]


@pytest.fixture
def chat(app):
    return as_user(app).create_conversation(messages=said("one"))["id"]


@pytest.fixture
def stale(app, chat, stored, cold):
    """An entry of the state before the last message, as after a writer that could not reach Redis; the newest version."""
    old = stored.texts(chat)
    cold.save_message(chat, USER, "two")
    stored.put_back(chat, old)
    return cold.get_conversation(chat)["version"]


READS = {
    "history": lambda ada, chat, **options: texts(ada, chat, **options),
    "page": lambda ada, chat, **options: [one["content"] for one in ada.get_messages(chat, **options)["messages"]],
}


@pytest.mark.parametrize("read", READS)
def test_who_says_what_it_has_seen_is_served_nothing_older(app, chat, stale, stored, uncached, read):
    """An old entry is given to nobody with `min_version`, and replaced."""
    ada = as_user(app)
    assert READS[read](ada, chat) == ["one"], "the entry looks like any other"
    assert READS[read](ada, chat, min_version=stale) == ["one", "two"]
    assert READS[read](ada, chat) == ["one", "two"]
    assert_at_rest(stored, uncached)


def test_min_version_over_http(app, chat, stale):
    """`?min_version=` of a client that has saved something itself."""
    client = client_of(app, "ada")
    path = f"/api/conversations/{chat}/messages"
    assert len(client.get(path).json["messages"]) == 1
    answer = client.get(f"{path}?min_version={stale}").json
    assert [one["content"] for one in answer["messages"]] == ["one", "two"]
    assert answer["version"] == stale


def test_the_version_of_an_answer_is_what_one_sends_back(app, chat, cold, stored):
    """Every answer's version, also a warm one's, is that of the state that it shows."""
    ada = as_user(app)
    for n in range(3):
        saved = ada.save_message(chat, USER, f"m {n}")
        page = ada.get_messages(chat)
        assert saved["version"] == page["version"] == cold.get_conversation(chat)["version"] == stored.version(chat)
        hits = counted(app, "hits")
        assert len(ada.get_messages(chat, min_version=saved["version"])["messages"]) == n + 2
        assert counted(app, "hits") == hits + 1, "an entry of this version is new enough"


def test_a_version_that_is_not_reached_yet(app, chat, stored, uncached):
    """Who claims to have seen the future is told the present, from the database, as often as it asks."""
    ada = as_user(app)
    for version in (10**6, 2**62, 10**15):
        for _ in range(2):
            hits = counted(app, "hits")
            assert texts(ada, chat, min_version=version) == ["one"], version
            assert counted(app, "hits") == hits, version
        assert texts(ada, chat) == ["one"], version
        assert_at_rest(stored, uncached)


def test_zero_is_no_demand(app, chat):
    """`min_version=0` and none at all are the same."""
    ada = as_user(app)
    assert texts(ada, chat, min_version=0) == texts(ada, chat, min_version=None) == ["one"]
    assert counted(app, "hits") == 2


@pytest.mark.parametrize("seconds", [1, 5, 30])
def test_an_entry_is_served_until_the_horizon(make_app, redis_url, seconds, stored, cold):
    """An entry that nobody could replace is served for `CONVERSATIONS_CACHE_MAX_STALENESS` seconds at most."""
    app = make_app(
        CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_MAX_STALENESS=seconds, CONVERSATIONS_CACHE_STRICT=False
    )
    ada = as_user(app)
    chat = ada.create_conversation(messages=said("one"))["id"]
    old = stored.texts(chat)
    cold.save_message(chat, USER, "two")
    stored.put_back(chat, stored.aged(old, seconds - 0.5))
    assert texts(ada, chat) == ["one"]
    stored.put_back(chat, stored.aged(old, seconds + 0.5))
    assert texts(ada, chat) == ["one", "two"]
    assert texts(ada, chat) == ["one", "two"]


def test_the_age_is_that_of_the_newest_element(app, chat, stored, cold):
    """An append renews the age of the entry: it was brought from a state known to be right to the next."""
    ada = as_user(app)
    stored.put_back(chat, stored.aged(stored.texts(chat), 29))
    ada.save_message(chat, USER, "two")
    hits = counted(app, "hits")
    stored.put_back(chat, [stored.texts(chat)[0], *stored.aged(stored.texts(chat)[1:], 3000)])
    assert texts(ada, chat) == texts(cold, chat)
    assert counted(app, "hits") == hits + 1


def test_an_append_to_a_stale_entry_empties_it(app, chat, stale, stored, cold, uncached):
    """The next writer knows the version it comes from: an entry with another one is wrong, and goes."""
    ada = as_user(app)
    ada.save_message(chat, USER, "three")
    assert stored.texts(chat) == []
    assert texts(ada, chat) == texts(cold, chat) == ["one", "two", "three"]
    assert_at_rest(stored, uncached)


# -- strict


@pytest.fixture
def strictly(make_app, redis_url):
    return make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=True)


def test_strict_never_serves_a_stale_entry(strictly, chat, stale, stored, uncached):
    """One lookup tells: the entry is replaced, and the answer is right the first time."""
    ada = as_user(strictly)
    for read in READS.values():
        assert read(ada, chat) == ["one", "two"]
    assert_at_rest(stored, uncached)
    hits = counted(strictly, "hits")
    assert texts(ada, chat) == ["one", "two"]
    assert counted(strictly, "hits") == hits + 1


def test_strict_serves_an_old_entry_that_is_true(strictly, stored):
    """Age does not matter where the database confirms each answer."""
    ada = as_user(strictly)
    chat = ada.create_conversation(messages=said("one"))["id"]
    stored.put_back(chat, stored.aged(stored.texts(chat), 3000))
    assert texts(ada, chat) == ["one"]
    assert counted(strictly, "hits", "filled") == [1, 0]


def test_strict_sees_through_an_entry_of_another_life(strictly, stored, cold, uncached):
    """The same version with another `rev`, as after a restored backup, is not the same state."""
    ada = as_user(strictly)
    chat = ada.create_conversation(messages=said("one"))["id"]
    sql(uncached, "UPDATE conversations SET rev = 7")
    sql(uncached, "UPDATE conversation_messages SET content = 'another'")
    assert texts(ada, chat) == texts(cold, chat) == ["another"]
    assert counted(strictly, "disagreed") == 1


def test_strict_sees_through_an_entry_that_is_ahead(strictly, stored, cold, uncached):
    """A database that was set back beneath its cache: what it no longer has is not shown."""
    ada = as_user(strictly)
    chat = ada.create_conversation(messages=said("one"))["id"]
    ada.save_message(chat, USER, "lost")
    entry = stored.texts(chat)
    ada.pop_message(chat)
    sql(uncached, "UPDATE conversations SET version = 1")
    stored.put_back(chat, entry)
    for _ in range(3):
        assert texts(ada, chat) == texts(cold, chat) == ["one"]


def test_strict_shows_nothing_of_what_was_deleted(strictly, stored, client):
    """An entry of a conversation that is gone, written back by whoever: 404, and the entry goes."""
    client_of_ada = client_of(strictly, "ada")
    ada = as_user(strictly)
    for permanent in (False, True):
        chat = ada.create_conversation(messages=said("secret"))["id"]
        entry = stored.texts(chat)
        ada.delete_conversation(chat, permanent=permanent)
        stored.put_back(chat, entry)
        for _ in range(2):
            assert client_of_ada.get(f"/api/conversations/{chat}/messages").status_code == 404
        assert client.exists(key(chat)) == 0


def test_strict_and_not_strict_on_one_redis(strictly, app, stored, uncached, cold):
    """Workers of both kinds share their entries."""
    first, second = as_user(strictly), as_user(app)
    chat = first.create_conversation(messages=said("one"))["id"]
    for n in range(5):
        (first, second)[n % 2].save_message(chat, USER, f"m {n}")
        for reader in (first, second):
            assert reader.get_messages(chat) == cold.get_messages(chat)
    assert counted(strictly, "misses") == counted(app, "misses") == 0
    assert_at_rest(stored, uncached)


def test_what_this_process_could_not_settle_it_does_not_read(proxied, proxy, cold, stored, uncached):
    """A key that is owed to Redis is dropped before this process reads it again, once Redis is back."""
    ada = as_user(proxied)
    chat = ada.create_conversation(messages=said("one"))["id"]
    old = stored.texts(chat)
    with proxy.cut_before("EVALSHA", times=None):
        ada.save_message(chat, USER, "two")
    assert counted(proxied, "stale_keys") == 1
    assert stored.texts(chat) == old
    for breaker in (cache_of(proxied).server.reading, cache_of(proxied).server.writing):
        breaker.succeeded()
    assert texts(ada, chat) == texts(cold, chat) == ["one", "two"]
    assert counted(proxied, "stale_keys", "cleared") == [0, 1]
    assert_at_rest(stored, uncached)
