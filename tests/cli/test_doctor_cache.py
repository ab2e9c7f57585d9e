"""The doctor and Redis: each thing that can be wrong with a server is made wrong on a real one, and named."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

import flask_conversations.cache
from flask_conversations.cache.causes import COMMANDS, cause
from flask_conversations.cache.clients import connector
from flask_conversations.config import Config
from flask_conversations.ops import redis

from ..infra import certificates
from ..infra.proxy import Proxy
from ..infra.redis_servers import RedisServer, cluster, sentinels

SECRET = "a-password-that-no-line-repeats"


def found(url: str, **config: Any) -> dict[str, tuple[str, str]]:
    """State and text of each line about the Redis at *url*, by name."""
    lines = redis.examine(connector(url, 0.5), Config(**config))
    assert SECRET not in str(lines)
    return {line.name: (line.state, line.text) for line in lines}


def failure(url: str) -> str:
    """The one line about a Redis that is of no use."""
    lines = found(url)
    assert [(name, state) for name, (state, _) in lines.items()] == [("cache", "FAIL")]
    return lines["cache"][1]


@pytest.fixture(scope="module")
def server() -> Any:
    users = {
        "app": f"on >{SECRET} ~conversation:* +eval +evalsha " + " ".join(f"+{one.lower()}" for one in COMMANDS),
        "others": f"on >{SECRET} ~elsewhere:* +@all",
        "tight": f"on >{SECRET} ~conversation:* +@all -info -time",
        "mute": f"on >{SECRET} ~conversation:* +@all -eval",
        "off": f"off >{SECRET} ~* +@all",
    }
    with RedisServer(users=users) as running:
        yield running


def test_all_is_well(server):
    """Nothing is wrong with a plain Redis, and the look leaves nothing behind."""
    lines = found(server.url)
    assert {state for state, _ in lines.values()} == {"ok"}
    assert set(lines) == {f"cache{part}" for part in ("", " version", " permissions", " memory", " latency", " expiry")}
    with server.client() as client:
        assert client.keys("*") == []


def test_a_user_with_exactly_what_the_cache_needs(server):
    """The list in the docs is enough, under the prefix that the rule names."""
    lines = found(server.url_as("app", SECRET))
    assert lines["cache permissions"][0] == "ok"
    assert "FAIL" not in {state for state, _ in lines.values()}
    assert "conversation:*" in found(server.url_as("app", SECRET), cache_prefix="other:")["cache"][1]


def test_what_is_probed_is_what_the_scripts_use():
    """A script that comes to need another command makes this fail before an operator's ACL does."""
    lua = Path(flask_conversations.cache.__file__).parent / "lua"
    used = {name for file in lua.glob("*.lua") for name in re.findall(r"redis\.p?call\('(\w+)'", file.read_text())}
    assert used == set(COMMANDS)


@pytest.mark.parametrize(
    ("user", "says"), [("others", "~conversation:*"), ("mute", "EVAL"), ("off", "password for Redis is wrong")]
)
def test_a_user_who_may_do_nothing(server, user, says):
    assert says in failure(server.url_as(user, SECRET))


def test_a_user_who_may_not_do_everything(server):
    state, text = found(server.url_as("tight", SECRET))["cache permissions"]
    assert (state, text) == ("FAIL", "The user may not run INFO, TIME. Run: ACL SETUSER <name> +info +time")


def test_passwords():
    with RedisServer(requirepass=SECRET) as server:
        bare = f"redis://127.0.0.1:{server.port}/0"
        assert "asks for a password" in failure(bare)
        assert "password for Redis is wrong" in failure(bare.replace("//", "//:wrong@"))
        assert found(server.url)["cache"][0] == "ok"


def test_nobody_there(server, tmp_path):
    """A name that is none, a port where nobody listens, a socket that is not there, and silence are four different things."""
    assert "host name" in failure("redis://no-such-host.invalid:6379/0")
    assert "No server listens" in failure("redis://127.0.0.1:1/0")
    assert "does not exist" in failure(f"unix://{tmp_path}/redis.sock")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "in time" in failure(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
    assert "no database of that number" in failure(f"redis://127.0.0.1:{server.port}/99")


def test_something_else_there(server):
    with Proxy(server.url) as proxy:
        proxy.garble(times=None)
        assert "no Redis" in failure(proxy.url)
        proxy.heal()
        proxy.cut_before(times=None)
        assert "closed the connection" in failure(proxy.url)


def test_certificates(server, tmp_path):
    """Signed by nobody known, for another name, too old, and TLS on one side only."""
    good = certificates.make(tmp_path)
    with Proxy(server.url, tls=good) as proxy:
        assert found(f"{proxy.url}?ssl_ca_certs={good.file}")["cache"][0] == "ok"
        assert "ssl_ca_certs" in failure(proxy.url)
        assert "rediss://" in failure(proxy.url.replace("rediss", "redis"))
        assert "does not exist" in failure(f"{proxy.url}?ssl_ca_certs={tmp_path}/none.pem")
    elsewhere = certificates.make(tmp_path, names=("elsewhere.example",))
    with Proxy(server.url, tls=elsewhere) as proxy:
        assert "another name" in failure(f"{proxy.url}?ssl_ca_certs={elsewhere.file}")
    old = certificates.make(tmp_path, days=-1)
    with Proxy(server.url, tls=old) as proxy:
        assert "expired" in failure(f"{proxy.url}?ssl_ca_certs={old.file}")
    assert "TLS" in failure(server.url.replace("redis://", "rediss://"))


def test_a_replica_and_a_full_server(server):
    """They answer, and take no writes: that is told apart from permissions."""
    with server.replica() as replica:
        assert "replica" in found(replica.url)["cache writing"][1]
    with RedisServer(maxmemory="100kb") as full:
        lines = found(full.url)
        assert lines["cache memory"][0] == "warn"
        assert "full" in lines["cache writing"][1]


def test_what_goes_when_memory_is_short():
    """A Redis that keeps every key refuses writes when it is full; with any other policy it drops some."""
    with RedisServer(maxmemory="100mb") as server, server.client() as client:
        for policy in ("noeviction", "allkeys-lru", "volatile-ttl", "volatile-lru"):
            client.config_set("maxmemory-policy", policy)
            expected = "warn" if policy == "noeviction" else "ok"
            assert found(server.url)["cache memory"][0] == expected, policy


def test_keys_that_never_expire(server):
    """A key of ours without expiry is somebody's doing. Other people's keys are not looked at."""
    with server.client() as client:
        try:
            client.set("somebody:else", 1)
            client.set("conversation:{a}:messages", 1, ex=60)
            assert found(server.url)["cache expiry"] == ("ok", "The 1 keys that were looked at expire.")
            client.persist("conversation:{a}:messages")
            assert found(server.url)["cache expiry"][0] == "FAIL"
            assert found(server.url, cache_prefix="other:")["cache expiry"][0] == "ok"
        finally:
            client.flushall()


def test_clusters():
    """A cluster is well; each wrong way to it says which is the right one."""
    with cluster(3) as nodes:
        lines = found(nodes.url)
        assert {state for state, _ in lines.values()} == {"ok"}
        assert "redis+cluster://" in failure(nodes.servers[0].url[:-1] + "1")
        for server in nodes.servers:
            server.kill()
        assert "No server listens" in failure(nodes.url)


def test_a_single_server_is_neither_cluster_nor_sentinel(server):
    assert "no cluster" in failure(f"redis+cluster://127.0.0.1:{server.port}")
    assert "Sentinel" in failure(f"redis+sentinel://127.0.0.1:{server.port}/mymaster")


def test_sentinels(server):
    with server.replica(), sentinels(3, server) as watch:
        assert "Sentinel names" in found(watch.url)["cache"][1]
        assert "service name" in failure(watch.url.replace("mymaster", "other"))


def test_a_client_that_is_none():
    """What the host passes as `cache` may be anything."""
    (line,) = redis.examine(object, Config())
    assert (line.state, "CONVERSATIONS_CACHE" in line.text) == ("FAIL", True)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("MISCONF Redis is configured to save RDB snapshots, but ...", "snapshot"),
        ("LOADING Redis is loading the dataset in memory", "loading"),
        ("MASTERDOWN Link with MASTER is down", "lost its master"),
        ("CLUSTERDOWN The cluster is down", "slots"),
        ("NOREPLICAS Not enough good replicas to write.", "replicas"),
        ("BUSY Redis is busy running a script.", "script"),
        ("-DENIED Redis is running in protected mode", "protected mode"),
        ("max number of clients reached", "maxclients"),
        ("unknown command 'eval'", "no scripts"),
        ("something new", "ResponseError"),
    ],
)
def test_answers_that_are_hard_to_provoke(said, says):
    """By the words that servers of several versions use; what is not known is named by its class, never repeated."""
    from redis.exceptions import ResponseError

    text = cause(ResponseError(f"{said} {SECRET}"))
    assert says in text
    assert SECRET not in text
