"""What is in Redis: where, in which form, how much, for how long, and that every verb leaves it right."""

from __future__ import annotations

import datetime as dt
import json
import random

import pytest

from flask_conversations.errors import ConversationsError, NotFound
from flask_conversations.identity import Identity

from ..infra.redis_servers import RedisServer, until
from ..service.tools import sql
from .tools import ASSISTANT, USER, as_user, assert_at_rest, counted, key, said

ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what Redis alone decides, or a setting."""


def texts(service, conversation_id, limit=15):
    return [message["content"] for message in service.get_conversation_history(conversation_id, limit)]


# -- the form


def test_the_key_is_a_list_with_a_literal_hash_tag_newest_first(ada, client, stored, cold):
    """`conversation:{<id>}:messages`, LIST, newest first, valid JSON with role, content and id, at most an hour."""
    chat = ada.create_conversation(messages=said("one", "two"))["id"]
    ada.save_message(chat, ASSISTANT, "three")
    assert client.keys("*") == [f"conversation:{{{chat}}}:messages".encode()]
    name = key(chat)
    assert client.type(name) == b"list"
    assert 3590 < client.ttl(name) <= 3600
    elements = [json.loads(text) for text in client.lrange(name, 0, -1)]
    assert [(one["role"], one["content"]) for one in elements] == [(ASSISTANT, "three"), (USER, "two"), (USER, "one")]
    assert [one["id"] for one in elements] == [one["id"] for one in cold.get_messages(chat)["messages"][::-1]]
    assert json.loads(client.lindex(name, 0))["content"] == "three"


def test_fifteen_messages_are_kept(ada, client, stored, uncached):
    """Of 40 messages the newest 15 are in Redis, whether they came one by one, in a batch, or out of the database."""
    chat = ada.create_conversation()["id"]
    for n in range(20):
        ada.save_message(chat, USER, f"m {n}")
    assert stored.contents(chat) == [f"m {n}" for n in range(19, 4, -1)]
    ada.save_messages(chat, said(*(f"m {n}" for n in range(20, 40))))
    newest = [f"m {n}" for n in range(39, 24, -1)]
    assert stored.contents(chat) == newest
    client.delete(key(chat))
    ada.get_conversation_history(chat, 3)
    assert stored.contents(chat) == newest
    assert_at_rest(stored, uncached)


@ON_SQLITE
def test_the_settings_without_our_prefix_are_read(make_app, redis_url, stored, uncached):
    """REDIS_URL, REDIS_CACHE_LIMIT and REDIS_CACHE_TTL are enough, and text from the environment will do."""
    app = make_app(REDIS_URL=redis_url, REDIS_CACHE_LIMIT="4", REDIS_CACHE_TTL="120", CONVERSATIONS_REDIS_URL=redis_url)
    chat = as_user(app).create_conversation(messages=said(*"abcdef"))["id"]
    assert stored.contents(chat) == ["f", "e", "d", "c"]
    assert 110 < stored.client.ttl(key(chat)) <= 120
    assert_at_rest(stored, uncached, limit=4, ttl=120)


@ON_SQLITE
def test_ours_win_over_theirs(make_app, redis_url, stored):
    """CONVERSATIONS_CACHE_LIMIT and _TTL go before REDIS_CACHE_LIMIT and _TTL."""
    app = make_app(
        CONVERSATIONS_REDIS_URL=redis_url,
        REDIS_URL="redis://127.0.0.1:1/0",
        REDIS_CACHE_LIMIT=4,
        REDIS_CACHE_TTL=120,
        CONVERSATIONS_CACHE_LIMIT=2,
        CONVERSATIONS_CACHE_TTL=60,
    )
    chat = as_user(app).create_conversation(messages=said(*"abcdef"))["id"]
    assert stored.contents(chat) == ["f", "e"]
    assert 50 < stored.client.ttl(key(chat)) <= 60


@ON_SQLITE
def test_the_prefix_stands_before_every_key(make_app, redis_url, client, stored):
    """Two apps with two prefixes on one Redis do not meet."""
    apps = [make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_PREFIX=name) for name in ("a:", "b:")]
    chat = as_user(apps[0]).create_conversation(messages=said("one"))["id"]
    assert client.keys("*") == [key(chat, "a:").encode()]
    assert texts(as_user(apps[1]), chat) == ["one"]
    assert sorted(client.keys("*")) == [key(chat, "a:").encode(), key(chat, "b:").encode()]


def test_largest_entry_allowed(make_app, redis_url, client, stored, uncached):
    """A thousand messages fit, filled, appended one by one and in batches larger than the limit."""
    app = make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_LIMIT=1000, CONVERSATIONS_REDIS_TIMEOUT=5)
    ada, cold = as_user(app), as_user(uncached)
    chat = ada.create_conversation(messages=said(*(f"m {n}" for n in range(1200))))["id"]
    assert client.llen(key(chat)) == 1000
    ada.save_message(chat, USER, "more")
    client.delete(key(chat))
    assert texts(ada, chat, 1000) == texts(cold, chat, 1000)
    assert client.llen(key(chat)) == 1000
    ada.save_messages(chat, said(*(f"n {n}" for n in range(1100))))
    assert client.llen(key(chat)) == 1000
    before = counted(app, "hits")
    assert texts(ada, chat, 1000) == texts(cold, chat, 1000)
    assert counted(app, "hits") == before + 1


@ON_SQLITE
def test_nobody_is_named_in_clear(make_app, redis_url, client):
    """Neither the user id nor the organisation is in Redis, in no key and no value."""
    app = make_app(CONVERSATIONS_REDIS_URL=redis_url)
    ada = as_user(app, "ada.lovelace@example.org", "acme-incorporated")
    chat = ada.create_conversation(messages=said("one"))["id"]
    ada.get_conversation_history(chat)
    dump = b" ".join([name + b" ".join(client.lrange(name, 0, -1)) for name in client.keys("*")])
    assert b"one" in dump
    for word in (b"lovelace", b"example.org", b"acme"):
        assert word not in dump


AN_ID = "00000000-0000-4000-8000-000000000000"
HEADER = (
    '{"_v":1000000,"_e":"0123456789ab","_t":1790000000000,"_s":1,'
    f'"_c":"{AN_ID}","_o":"0123456789abcdef0123456789abcdef","_w":-9223372036854775808,"_k":4294967295,"_d":4194303,'
)
"""What stands before each message, as cache/entries.py describes it, with the longest numbers that there are."""
MEMBERS = (
    f'"id":"{AN_ID}","seq":1000000,"parent_id":"{AN_ID}","version":1000000,"role":"assistant","content":"",'
    '"created_at":"2026-11-28T12:00:00.000000Z","updated_at":"2026-11-28T12:00:00.000000Z"}'
)
"""What a plain message says besides its text: all that has no default."""


def test_what_fifteen_messages_of_a_kilobyte_take(ada, client, record_property):
    """22 KB: 15 of text, and 0.45 that each message carries besides; and up to a quarter more, as Redis rounds up what it takes."""
    chat = ada.create_conversation()["id"]
    for n in range(30):
        ada.save_message(chat, (USER, ASSISTANT)[n % 2], f"{n:04} " + "x" * 1019)
    most = 1024 + len(HEADER) + len(MEMBERS)
    sizes = [len(element) for element in client.lrange(key(chat), 0, -1)]
    assert len(sizes) == 15
    assert max(sizes) <= most
    used = client.memory_usage(key(chat), samples=0)
    record_property("bytes for 15 messages of 1 KB", used)
    # the sizes that jemalloc gives out are a quarter apart at most
    assert sum(sizes) < used <= 15 * most * 5 / 4


def test_an_entry_does_not_grow_without_bound(ada, client, cold):
    """Large messages that come one by one do not add up to an entry that takes longer to carry than the database takes."""
    chat = ada.create_conversation()["id"]
    for n in range(8):
        ada.save_message(chat, USER, f"{n}" + "x" * 300_000)
        assert sum(map(len, client.lrange(key(chat), 0, -1))) <= 1 << 20
    assert texts(ada, chat) == texts(cold, chat)


# -- how it comes there, and goes


def test_it_is_written_through_from_the_first_message(ada, app, stored):
    """A new conversation is in Redis when it is created, with or without messages, and nothing is ever missed."""
    for messages in ([], said("one"), said("one", "two")):
        chat = ada.create_conversation(messages=messages)["id"]
        assert stored.contents(chat) == [one["content"] for one in reversed(messages)]
        for n in range(3):
            ada.save_message(chat, USER, f"m {n}")
            assert stored.contents(chat)[0] == f"m {n}"
        assert len(texts(ada, chat)) == len(messages) + 3
    assert counted(app, "misses", "hits") == [0, 3]


def test_a_read_fills_what_is_cold(ada, app, client, stored, cold):
    """First request: from the database, and Redis has it; second: from Redis. Also for a conversation without messages."""
    for messages in ([], said("one", "two")):
        chat = cold.create_conversation(messages=messages)["id"]
        misses, hits = counted(app, "misses", "hits")
        assert client.exists(key(chat)) == 0
        assert texts(ada, chat) == texts(cold, chat)
        assert client.exists(key(chat)) == 1
        assert texts(ada, chat) == texts(cold, chat)
        assert counted(app, "misses", "hits") == [misses + 1, hits + 1]


@ON_SQLITE
def test_after_its_expiry_it_comes_from_the_database(make_app, redis_url, client, stored):
    """An entry with a TTL of a second is gone after it, and the next read brings it back."""
    app = make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_TTL=1)
    ada = as_user(app)
    chat = ada.create_conversation(messages=said("one"))["id"]
    assert 0 < client.pttl(key(chat)) <= 1000
    client.pexpire(key(chat), 10)  # as if the second were over
    until(lambda: not client.exists(key(chat)), "the entry has expired")
    assert texts(ada, chat) == ["one"]
    assert counted(app, "misses") == 1
    assert stored.contents(chat) == ["one"]


@ON_SQLITE
def test_a_write_renews_the_expiry_and_a_read_does_not(ada, client):
    """EXPIRE 3600 comes with each message; who only reads does not keep a conversation in memory for ever."""
    chat = ada.create_conversation(messages=said("one"))["id"]
    client.expire(key(chat), 100)
    texts(ada, chat)
    assert client.ttl(key(chat)) <= 100
    ada.save_message(chat, USER, "two")
    assert client.ttl(key(chat)) > 3590


GONE = {
    "trash": lambda ada, chat: ada.delete_conversation(chat),
    "for good": lambda ada, chat: ada.delete_conversation(chat, permanent=True),
    "trash, then for good": lambda ada, chat: (
        ada.delete_conversation(chat) and ada.delete_conversation(chat, permanent=True)
    ),
}


def test_a_deleted_conversation_is_deleted_from_redis(ada, client, subtests):
    """The key goes with the conversation, and nobody brings it back."""
    for name, delete in GONE.items():
        with subtests.test(name):
            chat = ada.create_conversation(messages=said("secret"))["id"]
            texts(ada, chat)
            delete(ada, chat)
            assert client.keys("*") == []
            for _ in range(2):
                with pytest.raises(NotFound):
                    texts(ada, chat)
            assert client.keys("*") == [], "not even the right to fill it"


def test_a_restored_conversation_is_there_again(ada, stored, uncached, cold):
    """Out of the trash it is as it was, warm or cold."""
    chat = ada.create_conversation(messages=said("one", "two"))["id"]
    ada.delete_conversation(chat)
    ada.restore_conversation(chat)
    for _ in range(2):
        assert texts(ada, chat) == texts(cold, chat) == ["one", "two"]
    assert_at_rest(stored, uncached)


def test_an_id_can_be_used_again(ada, stored, uncached):
    """Deleted for good and created anew under the same UUID: nothing of the first shows, also not what was under way."""
    own_id = "6b1f5a1e-9a0e-4c5c-9d3b-0d4a1f2b3c4d"
    for turn in range(3):
        ada.create_conversation(id=own_id, messages=said(f"life {turn}"))
        ada.save_message(own_id, USER, "more")
        assert texts(ada, own_id) == [f"life {turn}", "more"]
        assert_at_rest(stored, uncached)
        ada.delete_conversation(own_id, permanent=True)


def prune(app, chat):
    long_ago = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=99)
    at = f"{long_ago:%Y-%m-%d %H:%M:%S.%f}"
    sql(app, "UPDATE conversations SET temporary = TRUE, updated_at = :at", at=at)
    return app.conversations.as_system(app=app).prune()


CHANGES = {
    "save": lambda ada, chat, app: ada.save_message(chat, USER, "new"),
    "save many": lambda ada, chat, app: ada.save_messages(chat, said(*"xyz")),
    "save again": lambda ada, chat, app: [ada.save_message(chat, USER, "new", client_id="k") for _ in range(2)],
    "edit": lambda ada, chat, app: ada.update_message(chat, newest(ada, chat), content="other"),
    "edit metadata": lambda ada, chat, app: ada.update_message(chat, newest(ada, chat), metadata={"a": 1}),
    "rate": lambda ada, chat, app: ada.rate_message(chat, newest(ada, chat), "up", "good", "very"),
    "delete message": lambda ada, chat, app: ada.delete_message(chat, newest(ada, chat)),
    "delete the first": lambda ada, chat, app: ada.delete_message(chat, ada.get_messages(chat)["messages"][0]["id"]),
    "pop": lambda ada, chat, app: ada.pop_message(chat),
    "clear": lambda ada, chat, app: ada.clear_conversation(chat),
    "clear, then save": lambda ada, chat, app: (ada.clear_conversation(chat), ada.save_message(chat, USER, "new")),
    "rename": lambda ada, chat, app: ada.update_conversation(chat, title="T", tags=["t"], starred=True),
    "archive": lambda ada, chat, app: ada.archive_conversation(chat),
    "archive twice": lambda ada, chat, app: [ada.archive_conversation(chat) for _ in range(2)],
    "unarchive": lambda ada, chat, app: (ada.archive_conversation(chat), ada.unarchive_conversation(chat)),
    "resolve": lambda ada, chat, app: ada.resolve_conversation(chat),
    "branch": lambda ada, chat, app: ada.save_message(
        chat, USER, "else", parent_id=ada.get_messages(chat)["messages"][0]["id"]
    ),
    "branch, then save": lambda ada, chat, app: [
        ada.save_message(chat, USER, "else", parent_id=ada.get_messages(chat)["messages"][0]["id"]),
        ada.save_message(chat, USER, "more"),
        ada.get_conversation_history(chat),
        ada.save_message(chat, USER, "and more"),
    ],
    "answer the newest by its id": lambda ada, chat, app: ada.save_message(
        chat, USER, "new", parent_id=newest(ada, chat)
    ),
    "replace": lambda ada, chat, app: ada.replace_messages(chat, said("a", "b")),
    "replace by more": lambda ada, chat, app: ada.replace_messages(
        chat, [*ada.get_messages(chat)["messages"], *said("b")]
    ),
    "snapshot": lambda ada, chat, app: ada.save_conversation(
        {"id": chat, "title": "T", "messages": [*ada.get_messages(chat)["messages"], *said("s")]}
    ),
    "snapshot that overwrites": lambda ada, chat, app: ada.save_conversation(
        {"id": chat, "title": "T", "messages": said("s")}, base_version=1, force_overwrite=True
    ),
    "prune": lambda ada, chat, app: prune(app, chat),
    "the system writes": lambda ada, chat, app: app.conversations.as_system(app=app).save_message(chat, USER, "sys"),
    "trash": lambda ada, chat, app: ada.delete_conversation(chat),
    "trash and back": lambda ada, chat, app: (ada.delete_conversation(chat), ada.restore_conversation(chat)),
}


def newest(ada, chat):
    return ada.get_messages(chat)["messages"][-1]["id"]


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_every_change_leaves_the_entry_right(ada, app, client, stored, uncached, cold, warm):
    """After each verb, on a warm or a cold key, Redis holds nothing or the truth, and a reader is told the truth."""
    for name, change in CHANGES.items():
        chat = ada.create_conversation(messages=said("one", "two", "three"))["id"]
        client.flushdb()
        if warm:
            texts(ada, chat)
        change(ada, chat, app)
        assert_at_rest(stored, uncached)
        for _ in range(2):
            if cold.conversation_exists(chat):
                assert ada.get_messages(chat)["messages"] == cold.get_messages(chat)["messages"], name
                assert ada.get_messages(chat)["version"] == cold.get_conversation(chat)["version"], name
            else:
                with pytest.raises(NotFound):
                    ada.get_messages(chat)
        assert_at_rest(stored, uncached)
        ada.delete_conversation(chat, permanent=True)


def test_what_appends_keeps_the_entry_and_what_changes_empties_it(ada, app, client, stored):
    """An append, also by batch, snapshot or as an answer to the newest, is applied: the next read is still warm."""
    appends = ("save", "save many", "save again", "answer the newest by its id", "the system writes")
    for name, change in CHANGES.items():
        if name in ("archive twice", "prune"):
            continue
        chat = ada.create_conversation(messages=said("one", "two"))["id"]
        assert client.exists(key(chat)) == 1
        change(ada, chat, app)
        if name in appends:
            assert client.exists(key(chat)) == 1, name
            assert stored.version(chat) == ada.get_messages(chat)["version"]


def test_a_claimed_conversation_changes_its_owner_in_redis_too(app, stored, uncached, client):
    """After the login the guest has nothing left, and the user has everything, warm or cold."""
    guest_id = Identity("guest:4f2c", anonymous=True)
    guest, ada = app.conversations.as_user(guest_id, app=app), as_user(app)
    chat = guest.create_conversation(messages=said("from a guest"))["id"]
    assert texts(guest, chat) == ["from a guest"]
    assert ada.claim("guest:4f2c") == 1
    assert_at_rest(stored, uncached)
    for _ in range(2):
        assert texts(ada, chat) == ["from a guest"]
        with pytest.raises(NotFound):
            texts(guest, chat)
    ada.save_message(chat, USER, "from Ada")
    assert stored.contents(chat) == ["from Ada", "from a guest"]
    assert_at_rest(stored, uncached)


def test_two_limits_on_one_redis(make_app, redis_url, stored, uncached, cold):
    """Workers with the limits 5 and 50 write and read the same entries, and everybody is told the truth."""
    small, large = (
        make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_LIMIT=limit, CONVERSATIONS_CACHE_STRICT=False)
        for limit in (5, 50)
    )
    draw = random.Random(5)
    chat = as_user(small).create_conversation()["id"]
    for n in range(60):
        writer, reader = draw.choices((small, large), k=2)
        as_user(writer).save_message(chat, USER, f"m {n}")
        limit = draw.choice((1, 4, 5, 6, 15, 50))
        if draw.random() < 0.1:
            stored.client.flushdb()
        assert texts(as_user(reader), chat, limit) == texts(cold, chat, limit)
        page = as_user(reader).get_messages(chat, limit=limit)
        assert page["messages"] == cold.get_messages(chat, limit=limit)["messages"]
        assert_at_rest(stored, uncached, limit=50)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 6))])
def test_a_random_history_leaves_only_right_entries_that_expire(make_app, redis_url, stored, uncached, seed, strict):
    """Whatever two users, the system and two workers did: all keys are entries, all right, all with an expiry."""
    apps = [make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=strict) for _ in range(2)]
    draw = random.Random(seed)
    chats: list[tuple[str, str]] = []
    done = 0
    for _ in range(60):
        app = draw.choice(apps)
        if not chats or draw.random() < 0.1:
            user = draw.choice(("ada", "bob"))
            chats.append(
                (user, as_user(app, user).create_conversation(messages=said(*"ab"[: draw.randrange(3)]))["id"])
            )
        user, chat = draw.choice(chats)
        service, truth = as_user(app, user), as_user(uncached, user)
        name, change = draw.choice([one for one in CHANGES.items() if one[0] != "prune"])
        try:
            change(service, chat, app)
            done += 1
        except (ConversationsError, IndexError):
            pass
        if draw.random() < 0.5 and truth.conversation_exists(chat):
            assert service.get_messages(chat) == truth.get_messages(chat), name
    assert done > 20
    assert assert_at_rest(stored, uncached) > 0


def test_a_key_never_outlives_its_lease_or_reservation(proxied, proxy, client, ada_behind):
    """While a reader fills a key or a writer commits, the key expires by itself, should nobody come back."""
    chat = ada_behind.create_conversation(messages=said("one"))["id"]
    client.flushdb()
    with proxy.hold("EVALSHA", nth=2, times=1) as held:
        reader = _running(lambda: texts(ada_behind, chat))
        held.wait()
        assert b'{"_l":' in client.lindex(key(chat), 0)
        assert 0 < client.pttl(key(chat)) <= 3000
    reader.join()
    with proxy.hold("EVALSHA", nth=2, times=1) as held:
        writer = _running(lambda: ada_behind.save_message(chat, USER, "two"))
        held.wait()
        assert b'{"_r":' in client.lindex(key(chat), 0)
        assert 0 < client.pttl(key(chat)) <= 10_000
    writer.join()
    assert 3_000_000 < client.pttl(key(chat)) <= 3_600_000


@pytest.fixture
def ada_behind(proxied):
    return as_user(proxied)


def _running(work):
    import threading

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@ON_SQLITE
def test_a_restarted_redis_serves_nothing_of_its_former_life(make_app, uncached):
    """A dump that a Redis comes back with is of another time: its entries are not served, and are replaced."""
    with RedisServer() as server:
        app = make_app(CONVERSATIONS_REDIS_URL=server.url, CONVERSATIONS_REDIS_TIMEOUT=5)
        ada = as_user(app)
        chat = ada.create_conversation(messages=said("one"))["id"]
        dump = server.dump()
        as_user(uncached).save_message(chat, USER, "two")
        server.restart_from(dump)
        until(lambda: server.client().exists(key(chat)), "the old entry is back")
        assert texts(ada, chat) == ["one", "two"]


def test_without_a_url_there_is_no_cache(make_app):
    """Everything works from the database, and no client is made."""
    app = make_app(CONVERSATIONS_REDIS_URL=None)
    assert app.extensions["flask_conversations"].cache is None
    chat = as_user(app).create_conversation(messages=said("one"))["id"]
    assert texts(as_user(app), chat) == ["one"]
