"""Private Redis servers that a test may kill, freeze, roll back, fail over and fill up: alone, with Sentinels, as a Cluster.

    with RedisServer(maxmemory="2mb") as server:
        client = server.client()
        server.kill()

They are real, listen on 127.0.0.1, and are gone after the block, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import Sentinel

from example_app.servers import Guarded, Unavailable, redis_binary, scratch_folder

from . import ports, services

TIMEOUT = 30
"""Seconds until a server that does not get there fails the test."""
HOST = "127.0.0.1"
SLOTS = 16384
REPLICATOR = "replicator"
"""The user and the password of replicas, so that a test can shut them out without touching other clients."""


def need_redis() -> str:
    """The program to start; skips the test, with the reason, where Redis is missing or left out."""
    services.need("redis")
    try:
        return redis_binary()
    except Unavailable as reason:  # the run has a Redis given by URL, but none that can be started
        services.missing(f"NO REDIS: {reason}")


def until(true: Callable[[], Any], what: str, seconds: float = TIMEOUT) -> None:
    """Wait until *true*; a Redis that does not answer yet is not."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if true():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not within {seconds} s: {what}.")
        time.sleep(0.02)


class RedisServer:
    """One Redis, in memory unless `appendonly="yes"`. *options* are those of redis.conf, with _ in the place of -.

    *users* are further ACL users, as `{"app": "on >password ~conversation:* +@all"}`.
    """

    arguments: tuple[str, ...] = ()

    def __init__(self, *, users: dict[str, str] | None = None, **options: str | int) -> None:
        self.options = options
        self.users = users or {}
        self.password = options.get("requirepass")
        self.port = 0
        self.master: RedisServer | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> RedisServer:
        binary = need_redis()
        self.port = ports.free(bus="cluster_enabled" in self.options)
        self.folder = self._stack.enter_context(scratch_folder())
        place = [f"port {self.port}", f"bind {HOST}", f"dir {self.folder}"]
        config = self.folder / "redis.conf"
        config.write_text("".join(f"{line}\n" for line in [*place, *self._configuration()]))
        self._process = Guarded([binary, config, *self.arguments], self.folder, self._is_ready)
        self._stack.callback(self._end)
        try:
            self.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    # where

    @property
    def url(self) -> str:
        """The address, with the password if there is one."""
        return f"redis://{f':{self.password}@' if self.password else ''}{HOST}:{self.port}/0"

    def url_as(self, user: str, password: str) -> str:
        return f"redis://{user}:{password}@{HOST}:{self.port}/0"

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    def client(self, **options: Any) -> redis.Redis:
        """A client for the test itself, which tries nothing twice."""
        return redis.Redis.from_url(self.url, **{"socket_timeout": 10, "retry": Retry(NoBackoff(), 0), **options})

    @property
    def pid(self) -> int:
        return self._process.pid

    # life and death

    def start(self) -> None:
        """Start it, after `stop` or `kill`, on the same port."""
        self._process.start()

    def stop(self) -> None:
        """Shut it down in order; start() begins with what is on disk, which is nothing unless `appendonly`."""
        self._process.end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._process.end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop its process: connections open, no answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def dump(self) -> bytes:
        """All data as they are now, as an RDB file."""
        with self.client() as client:
            client.save()
        return (self.folder / "dump.rdb").read_bytes()

    def restart_from(self, dump: bytes) -> None:
        """kill -9, and start with the data of an earlier `dump`."""
        self.kill()
        (self.folder / "dump.rdb").write_bytes(dump)
        self.start()
        (self.folder / "dump.rdb").unlink()  # a later start begins empty again

    # replication

    @contextlib.contextmanager
    def replica(self, **options: str | int) -> Iterator[RedisServer]:
        """A further server that follows this one and has all its data; with the same options unless others are given."""
        with RedisServer(users=self.users, **{**self.options, **options}) as replica:
            replica.follow(self)
            yield replica

    def follow(self, master: RedisServer) -> None:
        """Become a replica of *master* and catch up."""
        self.master = master
        with self.client() as client:
            client.execute_command("REPLICAOF", *master.address)
        self.wait_in_sync()

    def wait_in_sync(self) -> None:
        """Wait until this replica has all that its master has."""
        assert self.master is not None, "not a replica"
        with self.master.client() as above, self.client() as client:
            until(lambda: _link(client) == "up", "the replica is connected")
            offset = above.info("replication")["master_repl_offset"]
            until(lambda: client.info("replication")["slave_repl_offset"] >= offset, "the replica caught up")

    def pause_replication(self) -> None:
        """Let this replica lag: its master gets nothing more from it, and it gets no new writes."""
        assert self.master is not None, "not a replica"
        with self.master.client() as above, self.client() as client:
            above.execute_command("ACL", "SETUSER", REPLICATOR, "off")
            above.execute_command("CLIENT", "KILL", "TYPE", "replica")
            until(lambda: _link(client) == "down", "the replica is disconnected")

    def resume_replication(self) -> None:
        assert self.master is not None, "not a replica"
        with self.master.client() as above:
            above.execute_command("ACL", "SETUSER", REPLICATOR, "on")
        self.wait_in_sync()

    def promote(self) -> None:
        """Become a master, with what it has."""
        self.master = None
        with self.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
            until(self.is_master, "the replica is a master")

    def is_master(self) -> bool:
        with self.client() as client:
            return bool(client.info("replication")["role"] == "master")

    # the process

    def _configuration(self) -> list[str]:
        given = {"save": '""', **self.options}
        replicator = f"on >{REPLICATOR} ~* &* +psync +sync +replconf +ping"
        users = {REPLICATOR: replicator, **self.users}
        return [
            *(f"{name.replace('_', '-')} {value}" for name, value in given.items()),
            *(f"user {name} {rules}" for name, rules in users.items()),
            f"masteruser {REPLICATOR}",
            f"masterauth {REPLICATOR}",
        ]

    def _is_ready(self) -> bool:
        with contextlib.suppress(redis.RedisError, OSError), self.client() as client:
            return bool(client.ping())
        return False

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            self.kill()  # no test needs the data, and Redis 7 would wait for lagging replicas
        self._process.stop()


def _link(client: redis.Redis) -> str:
    return str(client.info("replication").get("master_link_status"))


class Sentinels:
    """Sentinels that watch a master under the name `mymaster`."""

    name = "mymaster"

    def __init__(self, servers: list[RedisServer], master: RedisServer) -> None:
        self.servers, self.master = servers, master

    @property
    def url(self) -> str:
        """Where clients ask for the master: `redis+sentinel://host:port,host:port/mymaster/0`."""
        password = f":{self.master.password}@" if self.master.password else ""
        return f"redis+sentinel://{password}{','.join(f'{HOST}:{each.port}' for each in self.servers)}/{self.name}/0"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [each.address for each in self.servers]

    def client(self, **options: Any) -> Sentinel:
        given = {"socket_timeout": 1, "password": self.master.password, **options}
        return Sentinel(self.addresses, sentinel_kwargs={"socket_timeout": 1}, **given)

    def address(self) -> tuple[str, int]:
        """Where the first Sentinel that answers says the master is."""
        for each in self.servers:
            with contextlib.suppress(redis.RedisError), each.client() as client:
                host, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
                return host.decode(), int(port)
        raise redis.ConnectionError("No Sentinel answers.")

    def wait_for_master(self, server: RedisServer) -> None:
        """Wait until *server* is the master and every Sentinel says so."""

        def agreed() -> bool:
            return server.is_master() and all(self._master_of(each) == server.address for each in self.servers)

        until(agreed, f"port {server.port} is the master")

    def fail_over(self, to: RedisServer) -> None:
        """Make the replica *to* the master while the old one lives."""
        with self.servers[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", self.name)
        self.wait_for_master(to)

    def _master_of(self, sentinel: RedisServer) -> tuple[str, int]:
        with sentinel.client() as client:
            host, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        return host.decode(), int(port)

    def _know_each_other(self) -> bool:
        with self.master.client() as client:
            replicas = client.info("replication")["connected_slaves"]
        return all(self._sees(each, replicas) for each in self.servers)

    def _sees(self, sentinel: RedisServer, replicas: int) -> bool:
        with sentinel.client() as client:
            said = client.execute_command("SENTINEL", "MASTER", self.name)
        # redis-py makes a dict of it in some versions, and bytes or text in it
        pairs = said.items() if isinstance(said, dict) else zip(said[::2], said[1::2], strict=True)
        known = {_text(name): _text(value) for name, value in pairs}
        others = len(self.servers) - 1
        return (int(known["num-slaves"]), int(known["num-other-sentinels"])) == (replicas, others)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _SentinelServer(RedisServer):
    """One Sentinel: the same program with another configuration, which it rewrites itself."""

    arguments = ("--sentinel",)

    def __init__(self, master: RedisServer, quorum: int, down_after: float) -> None:
        super().__init__()
        self.watched, self.quorum, self.down_after = master, quorum, int(down_after * 1000)

    def _configuration(self) -> list[str]:
        name = Sentinels.name
        return [
            f"sentinel monitor {name} {HOST} {self.watched.port} {self.quorum}",
            f"sentinel down-after-milliseconds {name} {self.down_after}",
            f"sentinel failover-timeout {name} 3000",
            *([f"sentinel auth-pass {name} {self.watched.password}"] if self.watched.password else []),
        ]


@contextlib.contextmanager
def sentinels(
    n: int, master: RedisServer, *, quorum: int | None = None, down_after: float = 0.5
) -> Iterator[Sentinels]:
    """*n* Sentinels that watch *master* and its replicas, and fail over a little after *down_after* seconds of silence."""
    with contextlib.ExitStack() as stack:
        made = [_SentinelServer(master, quorum or n // 2 + 1, down_after) for _ in range(n)]
        watch = Sentinels([stack.enter_context(each) for each in made], master)
        until(watch._know_each_other, "the Sentinels know each other and the replicas")
        yield watch


class Cluster:
    """The nodes of a Redis Cluster."""

    def __init__(self, servers: list[RedisServer]) -> None:
        self.servers = servers

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'{HOST}:{each.port}' for each in self.servers)}"

    def client(self, **options: Any) -> RedisCluster:
        nodes = [ClusterNode(*each.address) for each in self.servers]
        return RedisCluster(startup_nodes=nodes, **{"socket_timeout": 10, **options})

    def owner_of(self, key: str) -> RedisServer:
        """The node that has the slot of *key*."""
        slot = key_slot(key.encode())
        for first, last, (_, port, *_) in self._slots():
            if first <= slot <= last:
                return next(each for each in self.servers if each.port == port)
        raise LookupError(f"No node has slot {slot}.")

    def move(self, key: str, *, to: RedisServer) -> None:
        """Give the slot of *key* and what is in it to another node: clients that do not know yet get MOVED."""
        with self.moving(key, to=to):
            pass

    @contextlib.contextmanager
    def moving(self, key: str, *, to: RedisServer) -> Iterator[None]:
        """In the block the slot of *key* is on its way, its keys already with *to*: clients get ASK."""
        slot, source = key_slot(key.encode()), self.owner_of(key)
        with source.client() as old, to.client() as new:
            new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", _node_id(old))
            old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", _node_id(new))
            while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                old.execute_command("MIGRATE", *to.address, "", 0, 5000, "KEYS", *keys)
            yield
            for each in [to, source, *self.servers]:
                with each.client() as client:
                    client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", _node_id(new))

    def _slots(self) -> list[Any]:
        for each in self.servers:
            with contextlib.suppress(redis.ConnectionError, OSError), each.client() as client:
                client.set_response_callback("CLUSTER SLOTS", lambda said, **_: said)
                return list(client.execute_command("CLUSTER SLOTS"))
        raise redis.ConnectionError("No node answers.")

    def _is_ready(self, server: RedisServer) -> bool:
        with server.client() as client:
            said = client.execute_command("CLUSTER INFO")
        known = said if isinstance(said, dict) else dict(line.split(":") for line in _text(said).split())
        sizes = (int(known["cluster_slots_ok"]), int(known["cluster_known_nodes"]))
        return known["cluster_state"] == "ok" and sizes == (SLOTS, len(self.servers))


def _node_id(client: redis.Redis) -> str:
    return _text(client.execute_command("CLUSTER MYID"))


@contextlib.contextmanager
def cluster(n: int = 3, **options: str | int) -> Iterator[Cluster]:
    """A Redis Cluster of *n* masters that have all slots between them."""
    given: dict[str, Any] = {"cluster_enabled": "yes", "cluster_node_timeout": 2000, **options}
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(**given)) for _ in range(n)]
        for number, server in enumerate(servers):
            with server.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                slots = range(SLOTS * number // n, SLOTS * (number + 1) // n)
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
                if number:
                    client.execute_command("CLUSTER", "MEET", *servers[0].address)
        made = Cluster(servers)
        for server in servers:
            until(lambda server=server: made._is_ready(server), "the cluster is complete")
        yield made
