"""Rate limits: who is counted, where, for how long, and how requests are handled while the storage is out."""

from __future__ import annotations

import contextlib
import itertools
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from werkzeug.test import TestResponse

from flask_conversations import ConfigurationError, Conversations, api
from flask_conversations import rate_limits as ours
from flask_conversations.identity import AnonymousIdentity, Identity
from tests.infra import databases, redis_servers
from tests.infra.apps import client_of
from tests.rest.tools import URL, created, problem

MONTH = 30 * 86400
TIMEOUT = 30
LIMITED = {
    "create_conversation": "create",
    "fork_conversation": "create",
    "import_conversations": "create",
    "save_message": "send",
    "send_message": "send",
    "regenerate": "send",
    "regenerate_message": "send",
    "edit": "send",
    "edit_message": "send",
}
"""Views that create or send, by what they are or will be called."""


@pytest.fixture
def database(
    tmp_path: Path, sqlite_templates: dict[str, Path], record_property: Callable[[str, object], None]
) -> databases.Database:
    """SQLite alone: what is counted here is counted nowhere near the database."""
    record_property("database", "sqlite")
    return databases.Sqlite(tmp_path, sqlite_templates)


@pytest.fixture
def limited(make_app: Callable[..., Flask]) -> Callable[..., Flask]:
    """Makes apps where a person may create and send three times a month, counted in memory."""

    def make(**config: Any) -> Flask:
        limits = {"CONVERSATIONS_CREATE_LIMIT": "3/month", "CONVERSATIONS_SEND_LIMIT": "3/month"}
        return make_app(**{**limits, "CONVERSATIONS_RATE_STORAGE": "memory://", **config})

    return make


@pytest.fixture
def server() -> Iterator[redis_servers.RedisServer]:
    """A Redis of this test's own, to be killed and frozen."""
    with redis_servers.RedisServer() as server:
        yield server


@pytest.fixture
def hosts_url(redis_url: str) -> str:
    """`redis_url` as Flask-Limiter spells it."""
    return redis_url.replace("unix://", "redis+unix://", 1)


def ask(client: FlaskClient, **options: Any) -> TestResponse:
    return client.post(URL, json={}, **options)


def statuses(client: FlaskClient, n: int, **options: Any) -> list[int]:
    return [ask(client, **options).status_code for _ in range(n)]


def refused(answer: TestResponse) -> int:
    """The seconds to wait that an honest 429 names."""
    body = problem(answer, 429, "rate_limited")
    assert body["retryable"] is True
    assert int(answer.headers["Retry-After"]) >= 1
    return int(answer.headers["Retry-After"])


def refusal(client: FlaskClient, **options: Any) -> TestResponse:
    """The first 429 that *client* gets: how many requests fit into a short window depends on the machine."""
    deadline = time.monotonic() + TIMEOUT
    while (answer := ask(client, **options)).status_code != 429:
        assert time.monotonic() < deadline, "the limit refuses no request"
    return answer


# -- who is counted ----------------------------------------------------------------------------------------------------
def test_one_person_is_refused_what_is_too_much(limited):
    """The answer is a problem that says when to come back; nothing was created, and no other user is refused."""
    app = limited()
    ada, bob = client_of(app, "ada"), client_of(app, "bob")
    assert statuses(ada, 3) == [201, 201, 201]
    answer = ask(ada)
    wait = refused(answer)
    assert 1 <= wait <= MONTH + 1
    assert f"{wait} second" in answer.json["detail"]
    assert len(ada.get(URL).json["conversations"]) == 3
    assert statuses(bob, 4) == [201, 201, 201, 429]


def test_organisations_are_counted_apart(limited):
    """Ada of one organisation is not Ada of another, whatever the names put together spell."""
    app = limited()
    for user, org in [("ada", None), ("ada", "acme"), ("acme/ada", None), ("me/ada", "ac")]:
        assert statuses(client_of(app, user, org), 4) == [201, 201, 201, 429]


def test_creating_and_sending_are_counted_apart(limited):
    """Each has its limit; reading and changing have none."""
    app = limited()
    ada = client_of(app, "ada")
    chats = [created(ada, "a first message")["id"] for _ in range(3)]
    for chat in chats:
        assert ada.post(f"{URL}/{chat}/messages", json={"content": "more"}).status_code == 201
    refused(ada.post(f"{URL}/{chats[0]}/messages", json={"content": "too much"}))
    refused(ask(ada))
    assert ada.get(f"{URL}/{chats[0]}").status_code == 200
    assert ada.patch(f"{URL}/{chats[0]}", json={"title": "Bees"}).status_code == 200
    assert ada.post(f"{URL}/{chats[0]}/archive").status_code == 200


def test_every_mount_shares_the_count(limited):
    """A request that is refused in snake_case is refused in camelCase too, with a body in camelCase."""
    app = limited(CONVERSATIONS_REGISTER_BLUEPRINT=False)
    for name, prefix, case in [("one", "/api", "snake"), ("two", "/v2", "camel")]:
        app.register_blueprint(app.conversations.create_blueprint(name=name, url_prefix=prefix, json_case=case))
    ada = client_of(app, "ada")
    assert [ada.post(f"{prefix}/conversations", json={}).status_code for prefix in ("/api", "/v2", "/api")] == [201] * 3
    answer = ada.post("/v2/conversations", json={})
    assert (answer.status_code, answer.mimetype) == (429, "application/problem+json")
    assert (answer.json["code"], answer.json["requestId"]) == ("rate_limited", answer.headers["X-Request-ID"])
    refused(ask(ada))


HEADERS = (
    "X-Forwarded-For",
    "X-Real-IP",
    "X-Request-ID",
    "User-Agent",
    "Idempotency-Key",
    "Origin",
    "Cookie",
    "Accept",
)


def test_no_header_makes_a_user_another_one(limited, subtests):
    """Only what the identity is made of counts."""
    app = limited()
    for header in HEADERS:
        with subtests.test(header):
            client = client_of(app, f"somebody with {header}")
            found = [ask(client, headers={header: f"http://{n}.example"}).status_code for n in range(4)]
            assert found == [201, 201, 201, 429]


def test_another_session_of_the_same_person_is_the_same_person(limited):
    """Neither a new login nor another scope begins a new count."""
    app = limited()
    counter = app.extensions["flask_conversations"].limiter
    with app.test_request_context():
        waits = [counter.hit("send", Identity("ada", session_id=f"s{n}", scopes=frozenset({str(n)}))) for n in range(4)]
    assert waits[:3] == [None] * 3
    assert waits[3] is not None


def test_a_guest_is_counted_by_id_and_without_one_by_address(limited):
    """Who leaves the cookie out is no new guest each time, and is given none with the refusal."""
    app = limited()
    app.conversations.identity_loader(AnonymousIdentity())
    own_page = {"Origin": "http://localhost"}
    known = app.test_client()
    assert known.get(URL).status_code == 200
    assert statuses(known, 4, headers=own_page) == [201, 201, 201, 429]
    new = [ask(app.test_client(), headers=own_page) for _ in range(4)]
    assert [answer.status_code for answer in new] == [201, 201, 201, 429]
    assert ["Set-Cookie" in answer.headers for answer in new] == [True, True, True, False]
    elsewhere = ask(app.test_client(), headers=own_page, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert elsewhere.status_code == 201


def test_the_service_is_not_limited(limited):
    """The host's own code, jobs and commands go on."""
    app = limited()
    ada = app.conversations.as_user("ada", app=app)
    for _ in range(5):
        ada.save_message(ada.create_conversation()["id"], "user", "hello")
    assert ask(client_of(app, "ada")).status_code == 201


def test_what_is_answered_again_counts_and_so_does_what_is_refused(limited):
    """A replay and a mistake are requests too; only who is not let in at all is not counted."""
    app = limited()
    ada, stranger = client_of(app, "ada"), client_of(app, None)
    assert statuses(stranger, 5) == [401] * 5
    found = [ask(ada, headers={"Idempotency-Key": "once"}).status_code for _ in range(2)]
    assert [*found, ada.post(URL, json={"no_such_field": 1}).status_code] == [201, 200, 422]
    refused(ask(ada, headers={"Idempotency-Key": "once"}))


def test_every_route_that_creates_or_sends_is_limited():
    """By the names of the views; none else is."""
    routes = {route.name: route.limit for route in api.all_routes()}
    declared = {name: limit for name, limit in routes.items() if limit is not None}
    posts = {route.name for route in api.all_routes() if route.method == "POST"}
    assert declared == {name: limit for name, limit in LIMITED.items() if name in posts}


def test_without_a_limit_nothing_is_counted(make_app):
    """The default: as often as they like."""
    app = make_app(CONVERSATIONS_CREATE_LIMIT="", CONVERSATIONS_SEND_LIMIT=None)
    assert statuses(client_of(app, "ada"), 5) == [201] * 5
    assert app.conversations.get_stats(app=app)["limits"] == {"allowed": 0, "refused": 0, "uncounted": 0}


def test_the_stats_say_what_was_refused(limited):
    """For an alarm, or to see whether a limit is too tight."""
    app = limited()
    statuses(client_of(app, "ada"), 5)
    assert app.conversations.get_stats(app=app)["limits"] == {"allowed": 3, "refused": 2, "uncounted": 0}


# -- where, and for how long -------------------------------------------------------------------------------------------
def test_workers_with_one_redis_share_the_count(limited, redis_url, threads):
    """Of ten requests at once to two workers three are let through; the keys have no user id in clear."""
    workers = [limited(CONVERSATIONS_RATE_STORAGE=redis_url) for _ in range(2)]
    clients = [client_of(workers[n % 2], "a-name-that-no-key-may-tell") for n in range(10)]
    found = threads(10, lambda n: ask(clients[n]).status_code)
    assert sorted(found) == [201] * 3 + [429] * 7
    with redis.Redis.from_url(redis_url) as client:
        keys = client.keys("LIMITS:*")
        assert keys
        assert not any(b"a-name" in key for key in keys)
        assert all(0 < client.ttl(key) <= 2 * MONTH for key in keys)


def test_the_redis_of_the_cache_is_the_default(limited, redis_url):
    """No second address to set; `CONVERSATIONS_CACHE_PREFIX` keeps two apps apart in it."""
    settings = {"CONVERSATIONS_RATE_STORAGE": None, "CONVERSATIONS_CACHE": False, "CONVERSATIONS_REDIS_URL": redis_url}
    one, same, other = limited(**settings), limited(**settings), limited(**settings, CONVERSATIONS_CACHE_PREFIX="shop:")
    assert statuses(client_of(one, "ada"), 3) == [201] * 3
    refused(ask(client_of(same, "ada")))
    assert ask(client_of(other, "ada")).status_code == 201


def test_where_the_cache_is_no_single_redis_each_process_counts_for_itself(limited):
    """Sentinel and Cluster have to be named for the limits; until then memory counts."""
    app = limited(
        CONVERSATIONS_RATE_STORAGE=None,
        CONVERSATIONS_CACHE=False,
        CONVERSATIONS_REDIS_URL="redis+sentinel://127.0.0.1:1/main",
    )
    assert statuses(client_of(app, "ada"), 4) == [201, 201, 201, 429]
    assert app.conversations.get_stats(app=app)["limits"]["uncounted"] == 0


@pytest.mark.parametrize("kind", ["cluster", "sentinels"])
def test_a_cluster_and_sentinels_count_when_they_are_named(limited, kind):
    """`CONVERSATIONS_RATE_STORAGE` takes their addresses."""
    with contextlib.ExitStack() as servers:
        if kind == "cluster":
            url = servers.enter_context(redis_servers.cluster()).url
        else:
            master = servers.enter_context(redis_servers.RedisServer())
            url = servers.enter_context(redis_servers.sentinels(1, master)).url.removesuffix("/0")
        workers = [limited(CONVERSATIONS_RATE_STORAGE=url) for _ in range(2)]
        assert [ask(client_of(workers[n % 2], "ada")).status_code for n in range(4)] == [201, 201, 201, 429]


STRATEGIES = ("fixed-window", "moving-window", "sliding-window-counter", "our own counter")


def test_after_retry_after_another_one_is_let_through(limited, hosts_url, subtests):
    """To the second, with each strategy that Flask-Limiter has, and with our own counter, in memory and in Redis."""
    waiting = []
    for url, strategy in itertools.product(("memory://", hosts_url), STRATEGIES):
        app = limited(CONVERSATIONS_RATE_STORAGE=url, CONVERSATIONS_CREATE_LIMIT="3/second;1000/hour")
        if strategy != "our own counter":
            Limiter(get_remote_address, app=app, storage_uri=url, strategy=strategy)
        client = client_of(app, f"somebody of {strategy}")
        wait = refused(refusal(client))
        waiting.append((time.monotonic() + wait, f"{url.partition(':')[0]}, {strategy}", client))
    for until, name, client in sorted(waiting, key=lambda one: one[0]):
        time.sleep(max(0.0, until - time.monotonic()))
        with subtests.test(name):
            assert ask(client).status_code == 201


def test_the_longest_of_several_limits_is_waited_for(limited, redis_url):
    """And what one limit refuses, the others have not counted."""
    app = limited(CONVERSATIONS_CREATE_LIMIT="50/day;2/month", CONVERSATIONS_RATE_STORAGE=redis_url)
    ada = client_of(app, "ada")
    assert statuses(ada, 4) == [201, 201, 429, 429]
    assert MONTH - TIMEOUT < refused(ask(ada)) <= MONTH + 1
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        (day,) = client.keys("*/50/1/day*")
        assert client.get(day) == "2"


# -- while the storage is out -------------------------------------------------------------------------------------------
def test_a_dead_redis_refuses_nobody(limited, server, caplog, monkeypatch):
    """One warning for the whole outage, however often it is tried again; when it is back, so are the limits."""
    monkeypatch.setattr(ours, "PAUSE", 0)
    app = limited(CONVERSATIONS_RATE_STORAGE=server.url)
    ada = client_of(app, "ada")
    server.kill()
    with caplog.at_level(logging.WARNING, logger="flask_conversations"):
        assert statuses(ada, 6) == [201] * 6
    assert len([record for record in caplog.records if "Rate limits are not counted" in record.message]) == 1
    assert app.conversations.get_stats(app=app)["limits"] == {"allowed": 0, "refused": 0, "uncounted": 6}
    server.start()
    refused(refusal(ada))


def test_a_frozen_redis_refuses_nobody(limited, server):
    """It is not waited for longer than `CONVERSATIONS_REDIS_TIMEOUT`, and not at each request."""
    app = limited(CONVERSATIONS_RATE_STORAGE=server.url, CONVERSATIONS_REDIS_TIMEOUT=0.5)
    ada = client_of(app, "ada")
    server.freeze()
    began = time.monotonic()
    try:
        assert statuses(ada, 4) == [201] * 4
    finally:
        server.thaw()
    assert time.monotonic() - began < 4 * 0.5, "each request has waited"
    refused(refusal(ada))


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_an_app_starts_without_its_redis(limited, server, scheme):
    """One that is down at the start is no mistake of the set-up."""
    server.kill()
    app = limited(CONVERSATIONS_RATE_STORAGE=f"{scheme}://127.0.0.1:{server.port}")
    assert statuses(client_of(app, "ada"), 4) == [201] * 4


CACHE_RIGHTS = "~conversation:* +eval +evalsha +info +time +lpush +rpush +llen +lrange +lrem +ltrim +pexpire +unlink"
LIMIT_RIGHTS = "~LIMITS:* +evalsha +script|load +get +set +exists +incrby +pttl +rename"


@pytest.mark.parametrize(("rights", "last"), [(CACHE_RIGHTS, 201), (LIMIT_RIGHTS, 429)], ids=["cache", "limits"])
def test_the_user_of_redis_needs_rights_of_its_own_for_limits(limited, rights, last):
    """As the how-to names them; with those of the cache alone nothing is counted, and no request is refused."""
    with redis_servers.RedisServer(users={"chat": f"on >secret -@all {rights}"}) as server:
        app = limited(CONVERSATIONS_RATE_STORAGE=server.url_as("chat", "secret"))
        assert statuses(client_of(app, "ada"), 4) == [201, 201, 201, last]
    assert LIMIT_RIGHTS in (Path(__file__).parents[2] / "docs" / "howto" / "limit-rates.md").read_text()


# -- the host's Flask-Limiter ------------------------------------------------------------------------------------------
def test_the_hosts_limiter_counts(limited, redis_url, hosts_url):
    """In its storage, with its strategy and prefix; its key function, which knows addresses, does not decide."""
    app = limited()
    Limiter(lambda: "everybody", app=app, storage_uri=hosts_url, strategy="moving-window", key_prefix="shop")
    assert statuses(client_of(app, "ada"), 4) == [201, 201, 201, 429]
    assert ask(client_of(app, "bob")).status_code == 201
    with redis.Redis.from_url(redis_url) as client:
        keys = client.keys("*shop/conversations/create/*")
        assert sorted(client.llen(key) for key in keys) == [1, 3]


def test_the_hosts_limiter_may_come_before_us(make_app):
    """In which order a host sets up its extensions makes no difference."""

    class After(Conversations):
        def init_app(self, app: Flask, *args: Any, **options: Any) -> None:
            app.extensions["their_limiter"] = Limiter(get_remote_address, app=app, storage_uri="memory://")
            super().init_app(app, *args, **options)

    app = make_app(
        conversations=After(identity=lambda: "ada"),
        CONVERSATIONS_CREATE_LIMIT="3/month",
        CONVERSATIONS_RATE_STORAGE="no-such-storage://",
        CONVERSATIONS_DATABASE_URL="sqlite://",
        tables=False,
    )
    with app.app_context():
        app.db.create_all()
    assert statuses(app.test_client(), 4) == [201, 201, 201, 429]
    app.extensions["their_limiter"].reset()
    assert ask(app.test_client()).status_code == 201


@pytest.mark.parametrize("how", ["setting", "argument", "later"])
def test_a_host_that_switches_its_limiter_off_switches_ours_off(limited, how):
    """As tests do: by `RATELIMIT_ENABLED`, in the constructor, or on the object."""
    app = limited(**({"RATELIMIT_ENABLED": False} if how == "setting" else {}))
    limiter = Limiter(get_remote_address, app=app, storage_uri="memory://", enabled=how != "argument")
    if how == "later":
        assert statuses(client_of(app, "ada"), 4) == [201, 201, 201, 429]
        limiter.enabled = False
    assert statuses(client_of(app, "ada"), 4) == [201] * 4


def test_the_hosts_own_routes_are_left_alone(limited):
    """Its limits hold there, and ours do not; what it answers looks as the host wants it."""
    app = limited()
    limiter = Limiter(lambda: "everybody", app=app, storage_uri="memory://")
    app.add_url_rule("/tight", "tight", limiter.limit("1/month")(lambda: "ok"))
    app.add_url_rule("/free", "free", lambda: "ok", methods=["POST"])
    ada = client_of(app, "ada")
    assert statuses(ada, 4) == [201, 201, 201, 429]
    assert [ada.post("/free").status_code for _ in range(5)] == [200] * 5
    assert ada.get("/tight").status_code == 200
    answer = ada.get("/tight")
    assert (answer.status_code, answer.mimetype) == (429, "text/html")


@pytest.mark.parametrize("headers", [False, True], ids=["plain", "with headers"])
def test_the_hosts_limits_on_every_route_are_problems_in_ours(limited, hosts_url, headers):
    """In the spelling of the mount, with the time to wait."""
    app = limited(CONVERSATIONS_JSON_CASE="camel")
    Limiter(
        lambda: "everybody",
        app=app,
        storage_uri=hosts_url,
        default_limits=["2/month"],
        headers_enabled=headers,
    )
    ada = client_of(app, "ada")
    assert [ada.get(URL).status_code for _ in range(2)] == [200, 200]
    answer = ada.get(URL)
    assert (answer.status_code, answer.mimetype) == (429, "application/problem+json")
    assert (answer.json["code"], answer.json["requestId"]) == ("rate_limited", answer.headers["X-Request-ID"])
    assert MONTH - TIMEOUT < int(answer.headers["Retry-After"]) <= MONTH + 1


def test_the_hosts_headers_do_not_change_when_to_come_back(limited, hosts_url):
    """Flask-Limiter also sends headers for limits that are not used up: our refusal keeps its own Retry-After."""
    app = limited(CONVERSATIONS_CREATE_LIMIT="1/minute")
    Limiter(get_remote_address, app=app, storage_uri=hosts_url, default_limits=["1000/month"], headers_enabled=True)
    ada = client_of(app, "ada")
    assert ask(ada).headers["X-RateLimit-Limit"] == "1000"
    assert refused(ask(ada)) <= 61


def test_a_dead_storage_of_the_hosts_refuses_nobody(limited, server):
    """Nor does it cost an error, where the host itself limits none of our routes."""
    app = limited()
    Limiter(get_remote_address, app=app, storage_uri=server.url)
    ada = client_of(app, "ada")
    server.kill()
    assert statuses(ada, 4) == [201] * 4
    assert app.conversations.get_stats(app=app)["limits"]["uncounted"] == 4


# -- mistakes ----------------------------------------------------------------------------------------------------------
UNREADABLE = ("often", "10", 10, "10/fortnight", "-1/minute", "0/minute", "10/minute;", "5/minute;0/day")
NO_STORAGES = ("nowhere", "ftp://u:s3cret@host", "redis://u:s3cret@host:port/0", "redis+sentinel://u:s3cret@host:1")


def test_a_limit_that_cannot_be_read_is_said_at_the_start(make_app, subtests):
    """With the setting, what it is, and how it is written."""
    for kind, text in itertools.product(("CREATE", "SEND"), UNREADABLE):
        with (
            subtests.test(kind, text=text),
            pytest.raises(ConfigurationError, match=rf"CONVERSATIONS_{kind}_LIMIT is .*10/minute;100/hour"),
        ):
            make_app(**{f"CONVERSATIONS_{kind}_LIMIT": text}, tables=False)


def test_a_storage_that_cannot_be_is_said_at_the_start(limited, subtests):
    """Without the address: it may hold a password."""
    for address in NO_STORAGES:
        with subtests.test(address):
            with pytest.raises(ConfigurationError, match="CONVERSATIONS_RATE_STORAGE") as raised:
                limited(CONVERSATIONS_RATE_STORAGE=address, tables=False)
            assert "s3cret" not in str(raised.value)


WITHOUT = """
import importlib.abc, sys


class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("limits", "flask_limiter"):
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Blocked())
from flask import Flask
from flask_conversations import ConfigurationError, Conversations

app = Flask("host")
app.config.update(SECRET_KEY="a key of the tests", SQLALCHEMY_DATABASE_URI="sqlite://")
Conversations(app=app, identity=lambda: "ada")
again = Flask("again")
again.config.update(app.config, CONVERSATIONS_SEND_LIMIT="1/minute")
try:
    Conversations(app=again, identity=lambda: "ada")
except ConfigurationError as error:
    print(error)
"""


def test_without_the_package_a_limit_is_a_mistake_and_no_limit_is_none(tmp_path):
    """The rest of the extension works; the message says what to install."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "CONVERSATIONS_SEND_LIMIT" in done.stdout
    assert 'pip install "flask-conversations[limits]"' in done.stdout


def test_the_pause_after_a_failure_is_short():
    """Nobody counts in it, so that it is also how long a limit may be passed over."""
    assert ours.PAUSE <= 1
