"""What a cache key can hold that is none of ours, and settings that lead nowhere: a miss, healed and counted, never an error."""

from __future__ import annotations

import itertools
import json
import logging

import pytest
import redis

from flask_conversations.cache import owner_tag
from flask_conversations.config import Config
from flask_conversations.errors import ConfigurationError

from ..infra.ports import free
from ..infra.redis_servers import RedisServer
from .tools import USER, as_user, assert_at_rest, cache_of, changed, counted, key, said

RESERVE_MS = 10_000
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""Where Lua and the reader judge what stands in Redis: the database has no part in that but to be read after it."""


def texts(service, conversation_id, limit=15):
    return [message["content"] for message in service.get_conversation_history(conversation_id, limit)]


@pytest.fixture
def app(make_app, redis_url, strict):
    return make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=strict, CONVERSATIONS_REDIS_TIMEOUT=5)


class Case:
    """A conversation of Ada's with an entry, and means to spoil it."""

    def __init__(self, app, stored, cold):
        self.app, self.stored, self.client, self.cold = app, stored, stored.client, cold
        self.client.flushdb()  # of what a case before this one has left
        self.ada = as_user(app)
        self.chat = self.ada.create_conversation(messages=said("one", "two", "three"))["id"]
        self.texts = stored.texts(self.chat)
        self.name = key(self.chat)

    def of_another(self, user="ada", org=None):
        """The entry of another conversation."""
        other = as_user(self.app, user, org).create_conversation(messages=said("foreign", "foreign"))["id"]
        return self.stored.texts(other)

    def put(self, *elements):
        self.client.delete(self.name)
        if elements:
            self.client.rpush(self.name, *elements)

    def each(self, **header):
        self.put(*(changed(text, **header) for text in self.texts))


def reservation(stored, token="0123456789abcdef"):
    return f'{{"_r":"{token}","_t":{stored.now_ms}}}'


def lease(stored, token="0123456789abcdef"):
    return f'{{"_l":"{token}","_e":"{stored.run}","_t":{stored.now_ms}}}'


# what somebody has put where the entry was, and whether the script or the reader finds out
RUBBISH = {
    "a string": lambda case: case.client.set(case.name, "hello"),
    "a hash": lambda case: (case.client.delete(case.name), case.client.hset(case.name, "a", "b")),
    "a set": lambda case: (case.client.delete(case.name), case.client.sadd(case.name, "a", "b")),
    "a sorted set": lambda case: (case.client.delete(case.name), case.client.zadd(case.name, {"a": 1})),
    "a stream": lambda case: (case.client.delete(case.name), case.client.xadd(case.name, {"a": 1})),
    "10 MB of text": lambda case: case.client.set(case.name, "x" * 10_000_000),
    "10 MB in one element": lambda case: case.put("x" * 10_000_000),
    "10 MB in many elements": lambda case: case.put(*["x" * 1000] * 10_000),
    "10 MB below a sound entry": lambda case: case.put(*case.texts, *["x" * 10_000] * 1000),
    "empty elements": lambda case: case.put("", "", ""),
    "no JSON": lambda case: case.put("{", "nonsense"),
    "binary": lambda case: case.put(b"\xff\xfe\x00", b"\x80"),
    "other JSON": lambda case: case.put('{"role":"user","content":"one","id":"x"}'),
    "a bare message": lambda case: case.put(json.dumps(case.cold.get_messages(case.chat)["messages"][0])),
    "null": lambda case: case.put("null"),
    "an array": lambda case: case.put("[]"),
    "cut in the header": lambda case: case.put(*(text[:40] for text in case.texts)),
    "cut in the message": lambda case: case.put(*(text[:-3] for text in case.texts)),
    "cut in the last message only": lambda case: case.put(*case.texts[:-1], case.texts[-1][:-3]),
    "one letter other": lambda case: case.put(case.texts[0].replace(b'"three"', b'"THREE"'), *case.texts[1:]),
    "written again by another JSON library": lambda case: case.put(*(json.dumps(json.loads(t)) for t in case.texts)),
    "something appended": lambda case: case.put(*(text + b" " for text in case.texts)),
    "a line feed appended": lambda case: case.put(*(text + b"\n" for text in case.texts)),
    "sound on top of binary": lambda case: case.put(case.texts[0], b"\xff\xfe"),
    "sound on top of no JSON": lambda case: case.put(case.texts[0], "nonsense"),
    "sound on top of a reservation": lambda case: case.put(
        case.texts[0], reservation(case.stored, "x"), *case.texts[1:]
    ),
    "sound on top of a lease": lambda case: case.put(case.texts[0], lease(case.stored)),
    "empty among messages": lambda case: case.put(case.texts[0], empty(case), *case.texts[1:]),
    "empty on top of messages": lambda case: case.put(empty(case), *case.texts),
    "a lease on top of messages": lambda case: case.put(lease(case.stored), *case.texts),
    "a broken lease": lambda case: case.put('{"_l":"x"}'),
    "another conversation's entry": lambda case: case.put(*case.of_another()),
    "another conversation's below": lambda case: case.put(case.texts[0], *case.of_another()),
    "another conversation's, says ours": lambda case: case.put(
        *(changed(text, _c="00000000-0000-4000-8000-000000000000") for text in case.texts)
    ),
    "an older format": lambda case: case.each(_s=0),
    "a newer format": lambda case: case.each(_s=2),
    "a newer format below": lambda case: case.put(case.texts[0], *(changed(text, _s=2) for text in case.texts[1:])),
    "a huge version": lambda case: case.each(_v=10**30),
    "a negative version": lambda case: case.each(_v=-1),
    "another server's": lambda case: case.each(_e="0123456789ab"),
    "a strange mask": lambda case: case.each(_d=2**31),
    "a mask of fewer members": lambda case: case.each(_d=1),
    "a mask below": lambda case: case.put(*case.texts[:2], changed(case.texts[2], _d=0)),
}
NOT_COUNTED = ("another server's",)
"""Refused like an entry that is too old: nothing is wrong with it but the time."""


def empty(case):
    head = json.loads(case.texts[0])
    kept = {name: head[name] for name in ("_v", "_e", "_t", "_s", "_c", "_o", "_w")}
    return json.dumps({**kept, "_empty": 1}, separators=(",", ":"))


@ON_SQLITE
def test_rubbish_at_the_key(app, stored, uncached, cold, subtests):
    """A miss: the reader is told the truth; healed: after two reads the entry is right and serves; and counted."""
    for name, spoil in RUBBISH.items():
        with subtests.test(name):
            case = Case(app, stored, cold)
            refused, failed = counted(app, "refused"), counted(app, "errors", "timeouts")
            spoil(case)
            assert texts(case.ada, case.chat) == ["one", "two", "three"]
            assert texts(case.ada, case.chat) == ["one", "two", "three"]
            assert counted(app, "errors", "timeouts") == failed
            assert stored.contents(case.chat) == ["three", "two", "one"]
            hits = counted(app, "hits")
            assert texts(case.ada, case.chat) == ["one", "two", "three"]
            assert counted(app, "hits") == hits + 1, "the entry serves again"
            assert_at_rest(stored, uncached)
            if name not in NOT_COUNTED:
                assert counted(app, "refused") == refused + 1


@ON_SQLITE
def test_rubbish_at_the_key_of_a_writer(make_app, redis_url, stored, uncached, cold, subtests):
    """A save does not mind what stands at its key, and leaves nothing of it."""
    app = make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=False, CONVERSATIONS_REDIS_TIMEOUT=5)
    for name, spoil in RUBBISH.items():
        with subtests.test(name):
            case = Case(app, stored, cold)
            failed = counted(app, "errors", "timeouts")
            spoil(case)
            case.ada.save_message(case.chat, USER, "four")
            for _ in range(3):
                assert texts(case.ada, case.chat) == ["one", "two", "three", "four"]
            assert counted(app, "errors", "timeouts") == failed
            assert_at_rest(stored, uncached)


def test_an_entry_of_somebody_else_at_the_key(app, stored, cold, subtests):
    """Another owner's tag on this very conversation is not ours: the database says whose it is."""
    for user, org in (("bob", None), ("ada", "acme"), ("Ada", None), ("ada ", None)):
        with subtests.test(user=user, org=org):
            case = Case(app, stored, cold)
            case.each(_o=owner_tag(org, user))
            hits = counted(app, "hits")
            assert texts(case.ada, case.chat) == ["one", "two", "three"]
            assert counted(app, "hits") == hits
            case.ada.save_message(case.chat, USER, "four")
            assert texts(case.ada, case.chat) == ["one", "two", "three", "four"]


@ON_SQLITE
def test_a_time_that_cannot_be(make_app, redis_url, stored, cold, uncached, subtests):
    """An entry from the future, or older than the horizon, is read from the database again."""
    app = make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=False)
    for age in (-60, -3600, 31, 10**6):
        with subtests.test(f"{age} s old"):
            case = Case(app, stored, cold)
            hits, misses, filled = counted(app, "hits", "misses", "filled")
            case.put(*stored.aged(case.texts, age))
            assert texts(case.ada, case.chat) == ["one", "two", "three"]
            assert counted(app, "hits", "misses", "filled") == [hits, misses + 1, filled + 1]
            assert_at_rest(stored, uncached)


DEAD = (
    '{"_r":"0123456789abcdef","_t":%(dead)d}',
    '{"_r":"0123456789abcdef","_t":%(never)d}',
    '{"_r":"0123456789abcdef"}',
    '{"_r":"0123456789abcdef","_t":99999999999999999999999}',
    '{"_r":"","_t":0}',
    '{"_r":nonsense',
)


@ON_SQLITE
def test_a_reservation_that_never_ends(app, stored, uncached, cold, subtests):
    """A forged or forgotten one is dead after its time, or from a time that cannot be; what lies below goes with it."""
    for mark, copies in itertools.product(DEAD, (1, 3)):
        with subtests.test(mark, copies=copies):
            case = Case(app, stored, cold)
            now = stored.now_ms
            forged = mark.replace("%(dead)d", str(now - RESERVE_MS - 1000)).replace("%(never)d", str(now + 10**9))
            case.put(*[forged] * copies, *case.texts)
            for _ in range(3):
                assert texts(case.ada, case.chat) == ["one", "two", "three"]
            assert stored.contents(case.chat) == ["three", "two", "one"]
            assert_at_rest(stored, uncached)


def test_a_reservation_that_lives(app, stored, cold, uncached):
    """While a reservation may still be somebody's, nothing is served and nothing is filled; a writer settles beside it."""
    case = Case(app, stored, cold)
    live = reservation(stored)
    case.put(live, *case.texts)
    hits = counted(app, "hits", "filled")
    assert texts(case.ada, case.chat) == ["one", "two", "three"]
    assert counted(app, "hits", "filled") == hits
    case.ada.save_message(case.chat, USER, "four")
    assert texts(case.ada, case.chat) == ["one", "two", "three", "four"]
    assert stored.texts(case.chat)[0] == live.encode()
    stored.client.lset(case.name, 0, live.replace('"_t":', '"_t":1'))
    for _ in range(2):
        assert texts(case.ada, case.chat) == ["one", "two", "three", "four"]
    assert_at_rest(stored, uncached)


def test_a_lease_that_nobody_uses(app, stored, cold, uncached):
    """A reader that died after its miss keeps the others from filling for three seconds, and from nothing else."""
    case = Case(app, stored, cold)
    case.put(lease(stored))
    assert texts(case.ada, case.chat) == ["one", "two", "three"]
    assert counted(app, "filled") == 0
    case.ada.save_message(case.chat, USER, "four")
    assert texts(case.ada, case.chat) == ["one", "two", "three", "four"]
    stored.client.delete(case.name)
    assert texts(case.ada, case.chat) == ["one", "two", "three", "four"]
    assert_at_rest(stored, uncached)


# -- clients of the host's


@ON_SQLITE
@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 3}, {"encoding": "latin-1"}])
def test_a_client_of_the_hosts(make_app, redis_url, stored, uncached, cold, options):
    """`CONVERSATIONS_CACHE` takes a ready client, whatever it makes of answers, and goes before the URL."""
    with redis.Redis.from_url(redis_url, **options) as own:
        app = make_app(
            CONVERSATIONS_CACHE=own, CONVERSATIONS_REDIS_URL="redis://127.0.0.1:1/0", CONVERSATIONS_CACHE_STRICT=False
        )
        ada = as_user(app)
        chat = ada.create_conversation(messages=said("eins", "zwei ü 你好 🧵"))["id"]
        ada.save_message(chat, USER, "drei \udcff".encode("utf-8", "replace").decode())
        assert ada.get_messages(chat) == cold.get_messages(chat)
        stored.client.flushdb()
        for _ in range(2):
            assert ada.get_messages(chat) == cold.get_messages(chat)
        assert counted(app, "hits") == 2
        assert_at_rest(stored, uncached)


@ON_SQLITE
def test_an_option_in_code_is_a_client_too(make_app, redis_url, client):
    """`Conversations(db, cache=client)` and `cache=False`."""
    app = make_app(options={"cache": client})
    assert as_user(app).create_conversation(messages=said("one"))
    assert counted(app, "applied") == 1
    off = make_app(options={"cache": False}, CONVERSATIONS_REDIS_URL=redis_url)
    assert cache_of(off) is None


@ON_SQLITE
def test_a_decoding_client_and_bytes_that_are_no_text(make_app, redis_url, stored, cold, uncached):
    """CorruptEntry that a client of the host's cannot decode is rubbish like any other: no breaker opens, and it heals."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as own:
        app = make_app(CONVERSATIONS_CACHE=own, CONVERSATIONS_CACHE_STRICT=False)
        case = Case(app, stored, cold)
        case.put(case.texts[0], b"\xff\xfe")
        for _ in range(5):
            assert texts(case.ada, case.chat) == ["one", "two", "three"]
        assert counted(app, "refused") == 1
        assert_at_rest(stored, uncached)


@ON_SQLITE
def test_a_client_that_is_none(make_app):
    """Something that is no client of redis-py costs nobody anything: the database answers."""
    app = make_app(CONVERSATIONS_CACHE=object())
    ada = as_user(app)
    chat = ada.create_conversation(messages=said("one"))["id"]
    for _ in range(4):
        assert texts(ada, chat) == ["one"]


@ON_SQLITE
def test_no_cache_whatever_the_url(make_app, redis_url, subtests):
    """`CONVERSATIONS_CACHE = false`, from code or from the environment."""
    for value in (False, "false", "False", "off", "no", "0"):
        with subtests.test(value=value):
            app = make_app(CONVERSATIONS_CACHE=value, CONVERSATIONS_REDIS_URL=redis_url, tables=False)
            assert cache_of(app) is None


# -- addresses that lead nowhere


SECRET = "hunter2secret"
UNREADABLE = [
    "localhost:6379",
    f"http://:{SECRET}@localhost:6379/0",
    f"redis://:{SECRET}@localhost:notaport/0",
    f"redis://:{SECRET}@localhost:99999999/0",
    f"redis://:{SECRET}@[::1",
    f"redis+sentinel://:{SECRET}@localhost:1/",
    f"redis+cluster://:{SECRET}@localhost:1/3",
    f"redis://:{SECRET}@localhost:1/0?socket_timeout=soon",
    f"REDIS://:{SECRET}@localhost:1/0",
    f"redis+sentinel://:{SECRET}@,/mymaster",
]


@pytest.mark.parametrize("url", UNREADABLE, ids=str)
@ON_SQLITE
def test_an_address_that_cannot_be_read(make_app, url, caplog):
    """The app starts, says so once without repeating the address, and works from the database."""
    with caplog.at_level(logging.INFO):
        app = make_app(CONVERSATIONS_REDIS_URL=url)
        chat = as_user(app).create_conversation(messages=said("one"))["id"]
        assert texts(as_user(app), chat) == ["one"]
    said_so = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(said_so) == 1
    assert "redis+sentinel" in said_so[0], "the forms that work are named"
    assert SECRET not in caplog.text


NOWHERE = [
    "redis://:{secret}@127.0.0.1:{port}/0",
    "rediss://:{secret}@127.0.0.1:{port}/0",
    "redis://:{secret}@no-such-host.invalid:{port}/0",
    "redis+cluster://:{secret}@127.0.0.1:{port}",
    "redis+sentinel://:{secret}@127.0.0.1:{port}/mymaster",
    "unix:///no/such/socket",
    "redis://:{secret}@127.0.0.1:{port}/0?no_such_option=1",
    "rediss://:{secret}@127.0.0.1:{port}/0?ssl_ca_certs=/no/such/file",
]


@pytest.mark.parametrize("url", NOWHERE)
@ON_SQLITE
def test_an_address_where_nobody_is(make_app, url, caplog):
    """Nobody listens, or the name is unknown: reads and writes work, the log says it once, and names no password."""
    with caplog.at_level(logging.INFO):
        app = make_app(CONVERSATIONS_REDIS_URL=url.format(secret=SECRET, port=free()))
        ada = as_user(app)
        chat = ada.create_conversation(messages=said("one"))["id"]
        for n in range(5):
            ada.save_message(chat, USER, f"m {n}")
            assert len(texts(ada, chat)) == n + 2
    said_so = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(said_so) == 1, said_so
    assert "database" in said_so[0]
    assert SECRET not in caplog.text


@ON_SQLITE
def test_a_wrong_password(make_app, caplog, subtests):
    """The server refuses the login: the app works, says so once, and repeats no password."""
    with RedisServer(requirepass=SECRET) as server, caplog.at_level(logging.INFO):
        for login in ("", ":wrong@", "nobody:wrong@", ":" + SECRET * 100 + "@"):
            with subtests.test(login=login[:20]):
                caplog.clear()
                app = make_app(CONVERSATIONS_REDIS_URL=f"redis://{login}127.0.0.1:{server.port}/0")
                ada = as_user(app)
                chat = ada.create_conversation(messages=said("one"))["id"]
                for n in range(3):
                    ada.save_message(chat, USER, f"m {n}")
                    assert len(texts(ada, chat)) == n + 2
                assert server.client().keys("*") == []
                said_so = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
                assert len(said_so) == 1, said_so
                assert SECRET not in caplog.text
                assert "wrong" not in caplog.text


@pytest.mark.parametrize(
    "rules", ["~conversation:* +@all", "~conversation:* +eval +evalsha +@list +@keyspace +info +time"]
)
@ON_SQLITE
def test_an_acl_user_with_a_password(make_app, cold, rules):
    """`redis://user:password@...` with a user who may touch only our keys."""
    with RedisServer(users={"app": f"on >{SECRET} {rules}"}) as server:
        app = make_app(CONVERSATIONS_REDIS_URL=server.url_as("app", SECRET), CONVERSATIONS_CACHE_STRICT=False)
        ada = as_user(app)
        chat = ada.create_conversation(messages=said("one"))["id"]
        ada.save_message(chat, USER, "two")
        ada.update_conversation(chat, title="T")
        for _ in range(2):
            assert texts(ada, chat) == texts(cold, chat)
        assert counted(app, "errors", "hits") == [0, 1]


# -- settings


WRONG = {
    "cache_limit": [0, -1, 1001, "none", True, 1.5, "15.0"],
    "cache_ttl": [0, -1, "soon", True, 30 * 86400 + 1, float("inf"), 0.5],
    "cache_max_staleness": [0, -1, float("nan"), float("inf"), "soon", 86401],
    "redis_timeout": [0, -0.1, "soon", 61, float("nan")],
    "cache_prefix": ["{x}", "a{", "}", 7],
    "cache_strict": ["perhaps", 2],
    "redis_url": [7, b"redis://localhost:1"],
    "cache": ["redis://localhost:1/0", True, "true", 1, 0],
}


def test_a_setting_out_of_range(subtests):
    """It raises at start, and names the setting."""
    for name, values in WRONG.items():
        setting = f"CONVERSATIONS_{name.upper()}"
        for value in values:
            with subtests.test(name, value=value), pytest.raises(ConfigurationError, match=setting):
                Config.from_mapping({setting: value})


def test_a_setting_of_the_hosts_out_of_range(subtests):
    """Those without our prefix are checked likewise."""
    for name, value in (("REDIS_CACHE_LIMIT", 0), ("REDIS_CACHE_TTL", -1), ("REDIS_CACHE_TTL", "x")):
        with subtests.test(name, value=value), pytest.raises(ConfigurationError, match=name.removeprefix("REDIS_")):
            Config.from_mapping({name: value})


def test_a_setting_at_the_edge(subtests):
    """The least and the most that is allowed."""
    for name, value in (("cache_limit", 1), ("cache_limit", 1000), ("cache_ttl", 1), ("cache_ttl", "60")):
        with subtests.test(name, value=value):
            assert getattr(Config.from_mapping({f"CONVERSATIONS_{name.upper()}": value}), name) == int(value)
