"""The test infrastructure itself: the proxy, and the servers that tests kill. Shown with plain redis-py and SQLAlchemy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.infra import certificates, services
from tests.infra.postgresql_servers import PostgresqlServer
from tests.infra.proxy import Proxy
from tests.infra.redis_servers import RedisServer, cluster, need_redis, sentinels, until

TREE = Path(__file__).parents[2]


@pytest.fixture
def proxy(redis_url):
    with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
def connect():
    """Makes clients that wait for half a second and try nothing twice."""
    clients = []

    def client(url, **options):
        options = {"socket_timeout": 0.5, "retry": Retry(NoBackoff(), 0), **options}
        clients.append(redis.Redis.from_url(url, **options))
        return clients[-1]

    yield client
    for each in clients:
        each.close()


@pytest.fixture
def direct(redis_url, connect):
    """A client beside the proxy, to see what was executed."""
    return connect(redis_url, socket_timeout=10)


@pytest.fixture
def through(proxy, connect):
    """A client through the proxy, connected."""
    client = connect(proxy.url)
    client.ping()
    return client


# the proxy counts


def test_a_pipeline_is_one_round_trip(proxy, through):
    """A round trip is one sending and waiting, however many commands it has."""
    with proxy.counting() as seen:
        through.set("a", 1)
        with through.pipeline(transaction=False) as pipeline:
            pipeline.get("a").get("b").set("c", 3).execute()
    through.get("a")
    assert (seen.names, seen.round_trips) == (["SET", "GET", "GET", "SET"], 2)
    assert seen.commands[0].parts == (b"SET", b"a", b"1")
    assert "a 1" in seen.commands[0]


def test_a_handshake_does_not_count(proxy, connect):
    """What a client sends to set up a connection is kept apart."""
    with proxy.counting() as seen:
        connect(proxy.url).get("a")
    assert (seen.names, seen.round_trips, seen.connections) == (["GET"], 1, 1)
    assert proxy.handshakes[-1].name in ("SELECT", "CLIENT")


@pytest.mark.parametrize("protocol", [2, 3])
def test_every_kind_of_reply_passes(proxy, connect, redis_url, protocol):
    """Nested, empty, missing and large replies come unchanged, in both protocols."""
    client, direct = connect(proxy.url, protocol=protocol), connect(redis_url, protocol=protocol)
    direct.zadd("z", {"a": 1, "b": 2.5})
    direct.hset("h", mapping={"a": "1"})
    direct.set("large", os.urandom(3_000_000))
    for command in (["GET", "large"], ["GET", "none"], ["LRANGE", "none", 0, 9], ["HGETALL", "h"]):
        assert client.execute_command(*command) == direct.execute_command(*command)
    assert client.zrange("z", 0, -1, withscores=True) == direct.zrange("z", 0, -1, withscores=True)
    assert client.eval("return {1, {2, 'x', false}, {}}", 0) == [1, [2, b"x", None], []]
    with pytest.raises(redis.ResponseError):
        client.incrby("h")


def test_a_subscription_passes(through, direct):
    """What the server sends when it likes reaches the client."""
    with through.pubsub() as listener:
        listener.subscribe("news")
        assert listener.get_message(timeout=10)["type"] == "subscribe"
        direct.publish("news", "hello")
        assert listener.get_message(timeout=10)["data"] == b"hello"


# the proxy does harm to a command


@pytest.mark.parametrize(
    ("fault", "error", "executed"),
    [
        ("cut_before", redis.ConnectionError, 0),
        ("cut_after", redis.ConnectionError, 1),
        ("cut_reply", redis.ConnectionError, 1),
        ("swallow", redis.TimeoutError, 0),
        ("lose_reply", redis.TimeoutError, 1),
        ("garble", redis.RedisError, 0),
    ],
)
def test_a_fault_hits_one_command(proxy, through, direct, fault, error, executed):
    """The command fails as said, is executed or not as said, and the next one is well."""
    direct.set("long", "enough to be cut")
    count = "redis.call('INCR', KEYS[1]); return redis.call('GET', 'long')"
    through.script_load(count)
    with getattr(proxy, fault)("EVAL") as happened:
        assert through.get("n") is None
        with pytest.raises(error):
            through.eval(count, 1, "n")
    assert [command.name for command in happened.hit] == ["EVAL"]
    assert int(direct.get("n") or 0) == executed
    assert through.eval(count, 1, "n") == b"enough to be cut"


def test_a_doubled_command_is_executed_twice(proxy, through):
    """The client gets the second reply."""
    proxy.double("INCRBY")
    assert through.incrby("n") == 2
    assert through.incrby("n") == 3


def test_the_nth_command_fails(proxy, through):
    """Counting begins with the fault; `times` says how many fail from there."""
    proxy.cut_before(nth=3, times=2)
    outcomes = []
    for n in range(6):
        try:
            outcomes.append(through.set("n", n))
        except redis.ConnectionError:
            outcomes.append("cut")
    assert outcomes == [True, True, "cut", "cut", True, True]


def test_a_fault_chooses_by_what_the_command_says(proxy, through):
    """A function decides; without a limit it lasts until the end of its block."""
    with proxy.answer(b"-READONLY no\r\n", lambda command: "bob" in command, times=None) as fault:
        assert through.set("ada", 1)
        for _ in range(2):
            with pytest.raises(redis.exceptions.ReadOnlyError):
                through.set("bob", 1)
    assert through.set("bob", 1)
    assert len(fault.hit) == 2


def test_faults_add_up(proxy, through, direct):
    """Each of several faults does its part, the first one nearest to the client."""
    proxy.lose_reply("INCRBY")
    proxy.double("INCRBY")
    with pytest.raises(redis.TimeoutError):
        through.incrby("n")
    assert direct.get("n") == b"2"


def test_a_handshake_is_hit_by_its_name(proxy, connect):
    """A server that refuses every login."""
    proxy.answer(b"-NOAUTH no\r\n", "SELECT")
    with pytest.raises(redis.RedisError):
        connect(proxy.url).ping()


def test_a_slow_command_is_executed_after_the_client_gave_up(proxy, through, direct):
    """A delay longer than the timeout: an error, and yet it happens."""
    proxy.delay(0.7, "SET")
    with pytest.raises(redis.TimeoutError):
        through.set("a", 1)
    until(lambda: direct.get("a") == b"1", "the command was executed late")


def test_a_slow_reply_comes(proxy, through):
    """A delay shorter than the timeout: no error."""
    with proxy.delay_reply(0.05) as fault:
        assert through.set("a", 1)
    assert len(fault.hit) == 1


def test_a_command_is_replayed_late(proxy, through, direct):
    """The client gave up, later ones did their work, and then the command is executed, in the right database."""
    late = proxy.replay_late("SET")
    with pytest.raises(redis.TimeoutError):
        through.set("a", "old")
    assert through.set("a", "new")
    assert late.release() == [b"+OK\r\n"]
    assert direct.get("a") == b"old"
    assert late.release() == []


def test_a_copy_is_replayed_late(proxy, through, direct):
    """The command is executed and answered, and executed once more later."""
    proxy.replay_late("INCRBY", copy=True)
    assert through.incrby("n") == 1
    assert proxy.release_late() == [b":2\r\n"]
    assert direct.get("n") == b"2"


def test_commands_wait_at_a_barrier(proxy, connect, direct):
    """The test decides when a command is executed, one by one or all."""
    keys = ["a", "b", "c"]
    running = [threading.Thread(target=connect(proxy.url, socket_timeout=30).set, args=[key, 1]) for key in keys]
    with proxy.hold("SET") as held:
        for thread in running:
            thread.start()
        held.wait(3)
        assert direct.exists(*keys) == 0
        held.step()
        until(lambda: direct.exists(*keys) == 1, "one passed")
    for thread in running:
        thread.join(30)
    assert direct.exists(*keys) == 3


def test_replies_wait_at_a_barrier(proxy, connect, direct):
    """The command is executed, and its client does not know yet."""
    thread = threading.Thread(target=connect(proxy.url, socket_timeout=30).set, args=["a", 1])
    with proxy.hold("SET", after=True) as held:
        thread.start()
        held.wait()
        assert direct.get("a") == b"1"
        assert thread.is_alive()
    thread.join(30)
    assert not thread.is_alive()


def test_a_command_left_at_a_barrier_is_never_executed(redis_url, connect, direct):
    """When the proxy ends, what waits in it is gone."""
    with Proxy(redis_url) as proxy:
        held = proxy.hold("SET")
        client = connect(proxy.url, socket_timeout=30)

        def write():
            with pytest.raises(redis.ConnectionError):
                client.set("a", 1)

        thread = threading.Thread(target=write)
        thread.start()
        held.wait()
    thread.join(30)
    assert direct.get("a") is None


# the proxy does harm to connections


def test_connections_are_refused_and_accepted(proxy, through, connect):
    """Refusing leaves those who are connected alone, and accepting uses the same port."""
    proxy.refuse()
    assert through.ping()
    with pytest.raises(redis.ConnectionError):
        connect(proxy.url).ping()
    proxy.accept()
    assert connect(proxy.url).ping()


def test_all_connections_are_cut(proxy, through):
    """A client whose connection is gone makes another."""
    with through.pubsub() as listener:
        listener.subscribe("news")
        assert listener.get_message(timeout=10)
        with proxy.counting() as seen:
            proxy.cut_all()
            assert through.ping()
    assert seen.connections == 1


def test_what_stalls_arrives_later(proxy, through, direct):
    """While nothing passes clients give up; what they sent is executed when it passes again."""
    proxy.stall()
    with pytest.raises(redis.TimeoutError):
        through.set("a", 1)
    assert direct.get("a") is None
    proxy.resume()
    until(lambda: direct.get("a") == b"1", "the command arrived")
    assert through.get("a") == b"1"


def test_healing_ends_every_fault(proxy, connect):
    """One call, and all is well again."""
    proxy.swallow(times=None)
    proxy.stall()
    proxy.refuse()
    proxy.heal()
    assert connect(proxy.url).ping()


def test_tls_ends_in_the_proxy(redis_url, connect, tmp_path):
    """`rediss://` is real: the right certificate is accepted, one for another name, a stale or an unknown one is not."""
    good = certificates.make(tmp_path)
    other = certificates.make(tmp_path, names=("elsewhere.example",))
    stale = certificates.make(tmp_path, names=("127.0.0.1",), days=-1)
    with Proxy(redis_url, tls=good) as proxy:
        assert connect(proxy.url, ssl_ca_certs=str(good.file)).ping()
        for options in ({}, {"ssl_ca_certs": str(other.file)}):
            with pytest.raises(redis.ConnectionError):
                connect(proxy.url, **options).ping()
    for bad in (other, stale):
        with Proxy(redis_url, tls=bad) as proxy, pytest.raises(redis.ConnectionError):
            connect(proxy.url, ssl_ca_certs=str(bad.file), ssl_check_hostname=True).ping()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("unix:///tmp/redis.sock?db=3", "redis://127.0.0.1:{}/3"),
        ("unix://ada:pw@/tmp/redis.sock", "redis://ada:pw@127.0.0.1:{}/0"),
        ("redis://:pw@localhost:6379/2?socket_timeout=1", "redis://:pw@127.0.0.1:{}/2?socket_timeout=1"),
        ("postgresql+psycopg://me@/chat?host=/tmp/x&port=5432", "postgresql+psycopg://me@127.0.0.1:{}/chat"),
    ],
)
def test_a_url_keeps_all_but_its_address(url, expected):
    """User, password, database and options stay."""
    with Proxy(url) as proxy:
        assert proxy.url == expected.format(proxy.port)


# the proxy before PostgreSQL


@pytest.fixture
def sql():
    """An engine through a proxy, whose connection is made; the proxy."""
    with Proxy(services.need("postgresql")) as proxy:
        engine = sa.create_engine(proxy.url, poolclass=sa.QueuePool, pool_size=1, connect_args={"prepare_threshold": 2})
        engine.connect().close()
        yield engine, proxy
        engine.dispose()


def test_statements_are_counted_on_the_way(sql):
    """Prepared ones too, by their first word; preparing them is a round trip of its own."""
    engine, proxy = sql
    with proxy.counting() as seen, engine.begin() as connection:
        for n in range(4):
            connection.execute(sa.text("SELECT :n + 1"), {"n": n})
    assert seen.names == ["BEGIN", "SELECT", "SELECT", "PARSE", "SELECT", "SELECT", "COMMIT"]
    assert seen.round_trips == 7
    assert "SELECT" in seen.commands[-2]


@pytest.mark.parametrize(("fault", "committed"), [("cut_before", 0), ("cut_after", 1)])
def test_the_outcome_of_a_commit_is_unknown(sql, fault, committed):
    """The client sees the same error whether the commit was executed or not."""
    engine, proxy = sql
    table = f"infra_{os.urandom(4).hex()}"
    with getattr(proxy, fault)("COMMIT"), engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {table} (n int)")
        with pytest.raises(sa.exc.OperationalError):
            connection.commit()
    with engine.begin() as connection:
        assert sa.inspect(connection).has_table(table) == bool(committed)
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")


def test_an_ended_session_gets_the_error(sql):
    """What PostgreSQL says unasked reaches the client."""
    engine, _ = sql
    with engine.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with sa.create_engine(services.need("postgresql"), poolclass=sa.NullPool).connect() as other:
            other.exec_driver_sql("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        with pytest.raises(sa.exc.OperationalError, match="terminating connection"):
            connection.exec_driver_sql("SELECT 1")


# Redis


def test_a_killed_redis_comes_back_empty():
    """In memory only, on the same port, as another incarnation."""
    with RedisServer() as server, server.client() as client:
        client.set("a", 1)
        run = client.info("server")["run_id"]
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("a")
        server.start()
        assert client.get("a") is None
        assert client.info("server")["run_id"] != run


def test_a_redis_with_a_log_keeps_its_data():
    """`appendonly` is a setting like any other."""
    with RedisServer(appendonly="yes", appendfsync="always") as server, server.client() as client:
        client.set("a", 1)
        server.restart()
        assert client.get("a") == b"1"
        server.kill()
        server.start()
        assert client.get("a") == b"1"


def test_redis_goes_back_to_an_old_dump():
    """What was written since is gone, and the incarnation is another."""
    with RedisServer() as server, server.client() as client:
        client.set("a", "old")
        dump = server.dump()
        client.set("a", "new")
        server.restart_from(dump)
        assert client.get("a") == b"old"
        server.restart()
        assert client.get("a") is None


def test_a_frozen_redis_does_not_answer(connect):
    """Connections are made, and nothing comes back until it thaws."""
    with RedisServer() as server:
        client = connect(server.url)
        server.freeze()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.thaw()
        assert server.client().ping()


def test_redis_runs_out_of_memory():
    """Writes are refused, reads and DEL are not."""
    with RedisServer(maxmemory="2mb", maxmemory_policy="noeviction") as server, server.client() as client:
        assert client.set("small", 1)
        client.config_set("maxmemory", 1)  # quicker than to fill it
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("more", 1)
        assert client.get("small") == b"1"
        assert client.delete("small")


def test_passwords_and_users_are_checked(connect):
    """A password for all clients, and a user with limited rights."""
    with RedisServer(requirepass="secret", users={"app": "on >pw ~conversation:* +@all -flushall"}) as server:
        assert server.client().ping()
        with pytest.raises(redis.AuthenticationError):
            connect(server.url.replace("secret", "wrong")).ping()
        app = connect(server.url_as("app", "pw"))
        assert app.set("conversation:1", 1)
        for forbidden in (["SET", "other", 1], ["FLUSHALL"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                app.execute_command(*forbidden)


def test_a_lagging_replica_takes_over():
    """It has what it had when it was cut off; behind one address clients do not notice more than a lost connection."""
    with RedisServer() as master, master.replica() as replica, Proxy(master) as proxy:
        client = redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0))
        client.set("a", "old")
        replica.wait_in_sync()
        replica.pause_replication()
        client.set("a", "new")
        master.kill()
        replica.promote()
        proxy.upstream = replica
        proxy.cut_all()
        assert client.get("a") == b"old"
        assert client.set("a", "newer")
        client.close()


def test_a_replica_catches_up():
    """When it reaches its master again, it has everything."""
    with RedisServer(requirepass="secret") as master, master.replica() as replica:
        replica.pause_replication()
        master.client().set("a", "new")
        assert replica.client().get("a") is None
        replica.resume_replication()
        assert replica.client().get("a") == b"new"


@pytest.mark.slow
@pytest.mark.parametrize(
    "killed", [pytest.param(True, id="killed"), pytest.param(False, id="planned", marks=pytest.mark.long)]
)
def test_sentinels_fail_over(killed):
    """The replica takes the master's place, and clients that ask the Sentinels find it."""
    with RedisServer(requirepass="secret") as first, first.replica() as second, sentinels(3, first) as watch:
        client = watch.client().master_for(watch.name)
        assert watch.address() == first.address
        assert client.set("a", 1)
        second.wait_in_sync()
        if killed:
            first.kill()
            watch.wait_for_master(second)
        else:
            watch.fail_over(second)
        assert watch.address() == second.address
        assert client.get("a") == b"1"
        assert client.set("a", 2)


@pytest.mark.slow
def test_a_cluster_serves_all_slots():
    """Three nodes share the keys, and tell clients where a slot went and where it goes."""
    with cluster(3) as nodes, nodes.client() as client:
        for n in range(30):
            client.set(f"n{n}", n)
        assert all(server.client().dbsize() for server in nodes.servers)
        owner = nodes.owner_of("n1")
        other = next(server for server in nodes.servers if server is not owner)
        nodes.move("n1", to=other)
        assert nodes.owner_of("n1") is other
        assert client.get("n1") == b"1"
        with pytest.raises(redis.ResponseError, match=str(other.port)):
            owner.client().execute_command("GET", "n1")
        with nodes.moving("n1", to=owner):
            with pytest.raises(redis.ResponseError, match=str(owner.port)):
                other.client().execute_command("GET", "n1")
            assert client.get("n1") == b"1"


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "left out"])
def test_a_server_that_cannot_be_had_is_a_loud_skip(monkeypatch, missing):
    """Not started for this run, or left out of it: the reason is in the summary."""
    services.need("redis")
    monkeypatch.setenv(services.MISSING + "redis", "no wheel" if missing else services.LEFT_OUT)
    with pytest.raises(pytest.skip.Exception, match=r"NO REDIS: (no wheel|left out by --without)"):
        need_redis()


STARTS_AND_WAITS = """
import sys
from tests.infra.redis_servers import RedisServer
with RedisServer() as server, server.replica() as replica:
    replica.freeze()
    print(server.folder, replica.folder, flush=True)
    sys.stdin.read()
"""


def test_servers_do_not_outlive_the_test_run():
    """A test process that is killed leaves neither servers nor folders, not even of a server that it froze."""
    need_redis()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    starter = subprocess.Popen([sys.executable, "-c", STARTS_AND_WAITS], cwd=TREE, **pipes)
    folders = [Path(folder) for folder in starter.stdout.readline().split()]
    assert [folder.exists() for folder in folders] == [True, True]
    starter.send_signal(signal.SIGKILL)
    starter.communicate(timeout=30)
    until(lambda: not any(folder.exists() for folder in folders), "the servers ended")


# PostgreSQL


@pytest.mark.parametrize("mode", [pytest.param("fast", marks=pytest.mark.long), "immediate"])
def test_acknowledged_commits_survive_a_restart(mode):
    """Under load: clients fail meanwhile, and every acknowledged row is there."""
    with PostgresqlServer() as server:
        engine = sa.create_engine(server.create_database("chat"), pool_pre_ping=True)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE rows (n int)")
        acknowledged, ended = [], threading.Event()

        def write():
            n = 0
            while not ended.is_set():
                n += 1
                try:
                    with engine.begin() as connection:
                        connection.exec_driver_sql("INSERT INTO rows VALUES (%s)", (n,))
                except sa.exc.OperationalError:
                    continue
                acknowledged.append(n)

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(2):
            before = len(acknowledged)
            until(lambda before=before: len(acknowledged) > before + 20, "rows are written")
            server.restart(mode)
        ended.set()
        writer.join(30)
        with engine.connect() as connection:
            kept = set(connection.exec_driver_sql("SELECT n FROM rows").scalars())
        engine.dispose()
        assert set(acknowledged) <= kept
        assert len(acknowledged) > 40


def test_a_server_has_a_socket_too():
    """The same databases over the unix socket, with settings of its own."""
    with PostgresqlServer(fsync=True, max_connections=20) as server:
        engine = sa.create_engine(server.socket_url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            shown = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("fsync", "max_connections")]
        assert shown == ["on", "20"]
