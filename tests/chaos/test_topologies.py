"""Every way to reach a Redis: passwords, ACL users, sockets, TLS, a ready client, Sentinel, Cluster, one address for two."""

from __future__ import annotations

import threading
import time

import pytest

from tests.infra import certificates
from tests.infra.proxy import Proxy
from tests.infra.redis_servers import RedisServer, cluster, sentinels

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

ACL = "~conversation:* +eval +evalsha +info +time +llen +lrange +lrem +ltrim +lpush +rpush +pexpire +unlink"
"""The least that a user needs; also in docs/howto on Redis."""


class Pair:
    """Two apps of two processes, as it were: one writes, the other reads what it has written."""

    def __init__(self, make_app, **config):
        self.apps = [make_app(**config) for _ in range(2)]
        self.writer, self.reader = (app.conversations.as_user("ada", app=app) for app in self.apps)
        self.chat = self.writer.create_conversation()["id"]
        self.texts: list[str] = []

    def exercise(self, rounds=3):
        """Save, read elsewhere, edit, read elsewhere."""
        for _ in range(rounds):
            self.save()
            self.read()
            self.read()
            page = self.writer.get_messages(self.chat)["messages"]
            self.writer.update_message(self.chat, page[-1]["id"], content=f"{self.texts[-1]}, edited")
            self.texts[-1] += ", edited"
            self.read()
            self.read()

    def save(self):
        self.texts.append(f"message {len(self.texts)}")
        return self.writer.save_message(self.chat, "user", self.texts[-1])["version"]

    def read(self, min_version=None):
        page = self.reader.get_messages(self.chat, limit=10, min_version=min_version)
        assert [message["content"] for message in page["messages"]] == self.texts[-10:]

    def stats(self, name):
        return sum(app.conversations.get_stats(app=app)["cache"][name] for app in self.apps)

    def assert_in_use(self):
        hits = self.stats("hits")
        assert hits
        assert self.stats("errors") == self.stats("timeouts") == 0
        return hits


def test_a_password(make_app):
    """A Redis with a password."""
    with RedisServer(requirepass="s3cret!") as server:
        pair = Pair(make_app, CONVERSATIONS_REDIS_URL=server.url)
        pair.exercise()
        pair.assert_in_use()


def test_a_unix_socket(make_app, tmp_path):
    """A Redis on a socket file."""
    with RedisServer() as server:
        path = server.folder / "redis.sock"
        server.stop()
        config = server.folder / "redis.conf"
        config.write_text(f"{config.read_text()}unixsocket {path}\n")
        server.start()
        pair = Pair(make_app, CONVERSATIONS_REDIS_URL=f"unix://{path}?db=0")
        pair.exercise()
        pair.assert_in_use()


@pytest.mark.parametrize("decoding", [False, True])
def test_a_client_of_the_host(make_app, decoding):
    """A ready client object, also one that decodes answers."""
    with RedisServer() as server, server.client(decode_responses=decoding) as client:
        pair = Pair(make_app, CONVERSATIONS_CACHE=client)
        pair.exercise()
        pair.assert_in_use()


def test_an_acl_user_with_the_least_rights(make_app, figure):
    """The documented rights are enough, and each of them is needed."""
    with RedisServer(users={"app": f"on >pw {ACL}"}) as server, server.client() as admin:
        pair = Pair(make_app, CONVERSATIONS_REDIS_URL=server.url_as("app", "pw"))
        pair.exercise()
        pair.assert_in_use()
        needed = []
        for right in ACL.split()[1:]:
            admin.execute_command("ACL", "SETUSER", "app", f"-{right[1:]}")
            admin.flushall()
            admin.script_flush()
            lacking = Pair(make_app, CONVERSATIONS_REDIS_URL=server.url_as("app", "pw"))
            # what its own process has written it reads from the database then
            lacking.reader = lacking.writer
            lacking.exercise(1)
            needed += [right] if lacking.stats("errors") else []
            admin.execute_command("ACL", "SETUSER", "app", right)
        figure(f"least ACL: {ACL} (each seen to be needed but {set(ACL.split()[1:]) - set(needed) or 'none'})")
        assert len(needed) > 6


def test_tls(make_app, tmp_path):
    """rediss:// with the right certificate."""
    certificate = certificates.make(tmp_path)
    with RedisServer() as server, Proxy(server, tls=certificate) as proxy:
        pair = Pair(make_app, CONVERSATIONS_REDIS_URL=f"{proxy.url}?ssl_ca_certs={certificate.file}")
        pair.exercise()
        pair.assert_in_use()


@pytest.mark.parametrize("wrong", ["for another name", "signed by nobody known"])
def test_tls_with_a_wrong_certificate(make_app, tmp_path, caplog, wrong):
    """A certificate that does not fit: nothing is sent, the app works from the database and says so once."""
    certificate = certificates.make(tmp_path, names=["elsewhere.example"])
    trusted = f"?ssl_ca_certs={certificate.file}" if wrong == "for another name" else ""
    with RedisServer() as server, Proxy(server, tls=certificate) as proxy:
        pair = Pair(make_app, CONVERSATIONS_REDIS_URL=f"{proxy.url}{trusted}")
        pair.exercise()
        assert pair.stats("hits") == 0
        assert pair.stats("errors")
        assert proxy.commands == []


def test_a_lagging_replica_behind_the_same_address(make_app):
    """A replica that knows an older state takes over: nobody is shown that state."""
    with RedisServer() as server, server.replica() as replica, Proxy(server) as proxy:
        pair = Pair(make_app, CONVERSATIONS_REDIS_URL=proxy.url)
        pair.exercise()
        server_hits = pair.assert_in_use()
        replica.wait_in_sync()
        replica.pause_replication()
        for _ in range(3):
            pair.save()
        pair.read()
        proxy.refuse()
        proxy.cut_all()
        replica.promote()
        proxy.upstream = replica.url
        proxy.accept()
        pair.read()
        pair.exercise()
        assert pair.stats("hits") > server_hits


@pytest.mark.slow
def test_a_cluster_while_a_slot_moves(make_app, figure):
    """Three nodes, and the conversation's slot moves under load: MOVED and ASK hurt nobody, the cache stays right."""
    with cluster(3) as nodes:
        pair = Pair(make_app, CONVERSATIONS_REDIS_URL=nodes.url)
        pair.exercise()
        pair.assert_in_use()
        key = f"conversation:{{{pair.chat}}}:messages"
        for _ in range(2):
            to = next(server for server in nodes.servers if server is not nodes.owner_of(key))
            with nodes.moving(key, to=to):
                pair.exercise(2)
            pair.exercise(2)
        errors, hits = pair.stats("errors"), pair.stats("hits")
        deadline = time.monotonic() + 40
        while pair.stats("hits") == hits:
            pair.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        figure(f"Redis Cluster: 0 wrong while the slot moved twice, {errors} commands failed, in use again afterwards")


@pytest.mark.slow
def test_a_failover_of_sentinel_under_load(make_app, figure):
    """The master is killed under load: no error, no wrong answer, and the new master is used."""
    with RedisServer() as server, server.replica() as replica, sentinels(3, server) as watch:
        pair = Pair(make_app, CONVERSATIONS_REDIS_URL=watch.url)
        pair.exercise()
        pair.assert_in_use()
        stop, failures = threading.Event(), []

        def load() -> None:
            try:
                while not stop.is_set():
                    # a writer whose breaker is still open sends Redis nothing: the version is what makes readers exact then
                    pair.read(min_version=pair.save())
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                failures.append(error)

        thread = threading.Thread(target=load)
        thread.start()
        time.sleep(0.3)
        server.kill()
        began = time.monotonic()
        watch.wait_for_master(replica)
        hits, deadline = pair.stats("hits"), time.monotonic() + 60
        while pair.stats("hits") == hits and time.monotonic() < deadline and not failures:
            time.sleep(0.05)
        took = time.monotonic() - began
        stop.set()
        thread.join(20)
        assert not failures, failures
        assert pair.stats("hits") > hits
        figure(f"Sentinel: failover under load without an error, the new master used {took:.1f} s after the kill")
