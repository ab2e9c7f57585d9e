"""A proxy between a client and Redis or PostgreSQL that counts what passes, and does to it what networks do.

    with Proxy(redis_url) as proxy:
        client = redis.Redis.from_url(proxy.url)
        with proxy.lose_reply("SET"):
            ...

It knows commands and replies, so a fault hits the command it is meant for, and never by luck.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import sqlalchemy as sa

from . import ports, wire
from .certificates import Certificate
from .wire import Command, Ended, Reader

TIMEOUT = 30
"""Seconds that a test waits for a command before it fails."""

GARBAGE = b"\x00\xff rubbish \r\n$-7\r\n"
HOST = "127.0.0.1"

Where = str | Callable[[Command], bool] | None
"""Which commands: all, those of this name, or those for which it is true."""
Go = Callable[[], bytes]
"""Lets the command pass; its reply."""


class Cut(ConnectionError):
    """A fault closes the connection."""


class BlackHole(ConnectionError):
    """A fault lets nothing through any more, and the client waits."""


class Fault:
    """Something that happens to chosen commands until it is removed, or its block ends."""

    def __init__(
        self, proxy: Proxy, act: Callable[[Fault, Command, Go], bytes], where: Where, nth: int, times: int | None
    ) -> None:
        self.proxy, self.act, self.where, self.nth, self.times = proxy, act, where, nth, times
        self.matched = 0
        self.hit: list[Command] = []
        """What it happened to."""

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def wait(self, n: int = 1, timeout: float = TIMEOUT) -> None:
        """Wait until it happened *n* times."""
        with self.proxy._changed:
            if not self.proxy._changed.wait_for(lambda: len(self.hit) >= n, timeout):
                raise TimeoutError(f"Happened {len(self.hit)} times in {timeout} s, not {n}.")

    def remove(self) -> None:
        """Let all further commands pass."""
        with self.proxy._changed, contextlib.suppress(ValueError):
            self.proxy._faults.remove(self)

    def note(self, command: Command) -> None:
        with self.proxy._changed:
            self.hit.append(command)
            self.proxy._changed.notify_all()

    def is_due(self, command: Command) -> bool:
        """Count *command* if it is meant; whether its turn has come. Handshakes are meant only by their name."""
        if command.handshake and self.where != command.name:
            return False
        if callable(self.where) and not self.where(command):
            return False
        if isinstance(self.where, str) and self.where != command.name:
            return False
        self.matched += 1
        return self.matched >= self.nth and (self.times is None or self.matched < self.nth + self.times)


class Held(Fault):
    """Commands that wait until the test lets them go."""

    free = 0.0
    """How many may go."""
    let_go = 0

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def step(self) -> None:
        """Let one command go, the one that waits or the next to come."""
        with self.proxy._changed:
            self.free += 1
            self.proxy._changed.notify_all()

    def release(self) -> None:
        """Let all go, also those to come."""
        self.remove()
        with self.proxy._changed:
            self.free = float("inf")
            self.proxy._changed.notify_all()

    def block(self) -> None:
        with self.proxy._changed:
            self.proxy._changed.wait_for(lambda: self.let_go < self.free or self.proxy._closed)
            self.let_go += 1


class Late(Fault):
    """Commands that are executed when no client waits for them any more."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kept: list[tuple[list[Command], Command]] = []

    def __enter__(self) -> Late:
        return self

    def release(self) -> list[bytes]:
        """Execute what was kept, in order, each on a new connection like its own; the replies."""
        with self.proxy._changed:
            kept, self.kept = self.kept, []
        return [self.proxy._execute(handshakes, command) for handshakes, command in kept]


class Count:
    """What passed since, and until the end of the block if it is one."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._from = self._now()
        self._to: tuple[int, int, int] | None = None

    @property
    def commands(self) -> list[Command]:
        return self._proxy.commands[self._from[0] : (self._to or self._now())[0]]

    @property
    def names(self) -> list[str]:
        return [command.name for command in self.commands]

    @property
    def round_trips(self) -> int:
        return (self._to or self._now())[1] - self._from[1]

    @property
    def connections(self) -> int:
        return (self._to or self._now())[2] - self._from[2]

    def stop(self) -> None:
        self._to = self._now()

    def _now(self) -> tuple[int, int, int]:
        with self._proxy._changed:
            return len(self._proxy.commands), self._proxy.round_trips, self._proxy.connections


class Proxy:
    """Listens on a port of 127.0.0.1 and passes on to *upstream*: a URL, or a server that has one.

    Every fault takes `where` (which commands), `nth` (from the n-th of those on, counted from now) and `times` (how many; None:
    for ever). Of several faults of one command, the first is the nearest to the client. Commands that only set up a connection
    are neither counted nor hit, unless `where` is their name.
    """

    def __init__(self, upstream: Any, *, tls: Certificate | None = None) -> None:
        self.upstream = upstream
        self.commands: list[Command] = []
        """Everything the clients sent, but for handshakes."""
        self.handshakes: list[Command] = []
        self.round_trips = 0
        """How often a client sent and waited: a pipeline counts once, if the client sends it in one piece."""
        self.connections = 0
        """How many connections were made."""
        self._tls = tls and tls.for_server()
        self._wire: type[wire.Redis] | type[wire.Postgresql]
        self._wire = wire.Postgresql if self._url.startswith("postgresql") else wire.Redis
        self._changed = threading.Condition(threading.RLock())
        self._faults: list[Fault] = []
        self._late: list[Late] = []
        self._open: set[_Connection] = set()
        self._closed = self._stalled = False
        self._listener: socket.socket | None = None
        self.port = 0

    def __enter__(self) -> Proxy:
        self.accept()
        return self

    def __exit__(self, *error: object) -> None:
        self.refuse()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.cut_all()

    # where

    @property
    def url(self) -> str:
        """The URL of upstream, through this proxy."""
        return self.url_for(self._url)

    def url_for(self, url: str) -> str:
        """*url* with this proxy's address in the place of its own; user, password and database stay."""
        if url.startswith("postgresql"):
            through = sa.make_url(url).difference_update_query(["host", "port"]).set(host=HOST, port=self.port)
            return through.render_as_string(hide_password=False)
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        path = f"/{query.pop('db', 0)}" if parts.scheme == "unix" else parts.path
        user = "".join(parts.netloc.rpartition("@")[:2])
        scheme = "rediss" if self._tls else "redis"
        return urlunsplit((scheme, f"{user}{HOST}:{self.port}", path, urlencode(query), ""))

    @property
    def _url(self) -> str:
        return str(getattr(self.upstream, "url", self.upstream))

    # counting

    @contextlib.contextmanager
    def counting(self) -> Iterator[Count]:
        """What passes in this block."""
        count = Count(self)
        try:
            yield count
        finally:
            count.stop()

    def clear(self) -> None:
        """Begin to count anew."""
        with self._changed:
            self.commands, self.handshakes = [], []
            self.round_trips = self.connections = 0

    # faults of a command

    def cut_before(self, where: Where = None, *, nth: int = 1, times: int | None = 1) -> Fault:
        """Close the connection instead of executing the command."""

        def act(fault: Fault, command: Command, go: Go) -> bytes:
            fault.note(command)
            raise Cut

        return self._add(Fault(self, act, where, nth, times))

    def cut_after(self, where: Where = None, *, nth: int = 1, times: int | None = 1) -> Fault:
        """Execute the command, and close the connection instead of replying."""
        return self.cut_reply(where, nth=nth, times=times, after=0)

    def cut_reply(self, where: Where = None, *, nth: int = 1, times: int | None = 1, after: int = 5) -> Fault:
        """Execute the command, and close the connection after so many bytes of the reply."""

        def act(fault: Fault, command: Command, go: Go) -> bytes:
            reply = go()
            fault.note(command)
            raise Ended(reply[:after])

        return self._add(Fault(self, act, where, nth, times))

    def delay(self, seconds: float, where: Where = None, *, nth: int = 1, times: int | None = 1) -> Fault:
        """Pass the command on late."""

        def act(fault: Fault, command: Command, go: Go) -> bytes:
            fault.note(command)
            time.sleep(seconds)
            return go()

        return self._add(Fault(self, act, where, nth, times))

    def delay_reply(self, seconds: float, where: Where = None, *, nth: int = 1, times: int | None = 1) -> Fault:
        """Execute the command at once, and reply late."""

        def act(fault: Fault, command: Command, go: Go) -> bytes:
            reply = go()
            fault.note(command)
            time.sleep(seconds)
            return reply

        return self._add(Fault(self, act, where, nth, times))

    def swallow(self, where: Where = None, *, nth: int = 1, times: int | None = 1) -> Fault:
        """Neither execute nor answer, nor anything else on that connection: the client waits until it gives up."""

        def act(fault: Fault, command: Command, go: Go) -> bytes:
            fault.note(command)
            raise BlackHole

        return self._add(Fault(self, act, where, nth, times))

    def lose_reply(self, where: Where = None, *, nth: int = 1, times: int | None = 1) -> Fault:
        """Execute the command, and never answer it, nor anything else on that connection."""

        def act(fault: Fault, command: Command, go: Go) -> bytes:
            go()
            fault.note(command)
            raise BlackHole

        return self._add(Fault(self, act, where, nth, times))

    def double(self, where: Where = None, *, nth: int = 1, times: int | None = 1) -> Fault:
        """Execute the command twice and give the second reply, as a client does that tries again by itself."""

        def act(fault: Fault, command: Command, go: Go) -> bytes:
            go()
            reply = go()
            fault.note(command)
            return reply

        return self._add(Fault(self, act, where, nth, times))

    def replay_late(self, where: Where = None, *, nth: int = 1, times: int | None = 1, copy: bool = False) -> Late:
        """Never answer the command, and execute it when the test says `release()`. Redis only.

        With *copy* it is executed and answered as usual, and a copy is executed then.
        """

        def act(fault: Fault, command: Command, go: Go) -> bytes:
            reply = go() if copy else b""
            fault.note(command)
            if not copy:
                raise BlackHole
            return reply

        late = Late(self, act, where, nth, times)
        self._add(late)
        self._late.append(late)
        return late

    def release_late(self) -> list[bytes]:
        """Execute everything that `replay_late` kept; the replies."""
        return [reply for fault in self._late for reply in fault.release()]

    def garble(
        self,
        where: Where = None,
        *,
        nth: int = 1,
        times: int | None = 1,
        reply: bytes = GARBAGE,
        executed: bool = False,
    ) -> Fault:
        """Answer with garbage."""
        return self.answer(reply, where, nth=nth, times=times, executed=executed)

    def answer(
        self, reply: bytes, where: Where = None, *, nth: int = 1, times: int | None = 1, executed: bool = False
    ) -> Fault:
        """Answer with exactly *reply*, as `b"-LOADING ...\\r\\n"`, without executing the command unless asked to."""

        def act(fault: Fault, command: Command, go: Go) -> bytes:
            if executed:
                go()
            fault.note(command)
            return reply

        return self._add(Fault(self, act, where, nth, times))

    def hold(self, where: Where = None, *, nth: int = 1, times: int | None = None, after: bool = False) -> Held:
        """Let the command wait before it is executed, or *after*, before it is answered, until `release()` or `step()`."""

        def act(fault: Fault, command: Command, go: Go) -> bytes:
            assert isinstance(fault, Held)
            reply = go() if after else b""
            fault.note(command)
            fault.block()
            return reply if after else go()

        held = Held(self, act, where, nth, times)
        self._add(held)
        return held

    # faults of the connection

    def refuse(self) -> None:
        """Refuse new connections; those that are there stay."""
        with self._changed:
            listener, self._listener = self._listener, None
        if listener:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits there
            listener.close()

    def accept(self) -> None:
        """Let clients connect again, on the same port."""
        if self._listener is None:
            # not a port that the system chooses: while we refuse, it could give that to another process
            self.port = self.port or ports.free()
            self._listener = listener = socket.create_server((HOST, self.port), backlog=512)
            threading.Thread(target=self._accept_from, args=[listener], daemon=True).start()

    def cut_all(self) -> None:
        """Close all connections; new ones are welcome."""
        with self._changed:
            connections = list(self._open)
        for connection in connections:
            connection.close()

    def stall(self) -> None:
        """Let nothing pass. What is sent meanwhile is under way, and arrives with `resume`, even if its sender left."""
        with self._changed:
            self._stalled = True

    def resume(self) -> None:
        with self._changed:
            self._stalled = False
            self._changed.notify_all()

    def heal(self) -> None:
        """End all faults."""
        with self._changed:
            faults, self._faults = self._faults, []
        for fault in faults:
            if isinstance(fault, Held):
                fault.release()
        self.resume()
        self.accept()

    # what the connections need

    def _add(self, fault: Fault) -> Fault:
        with self._changed:
            self._faults.append(fault)
        return fault

    def _accept_from(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                connection = _Connection(self, client)
                with self._changed:
                    self.connections += 1
                    self._open.add(connection)
                threading.Thread(target=connection.run, daemon=True).start()

    def _note(self, batch: list[Command]) -> None:
        meant = [command for command in batch if not command.handshake]
        with self._changed:
            self.commands += meant
            self.handshakes += [command for command in batch if command.handshake]
            self.round_trips += bool(meant)

    def _due(self, command: Command) -> list[Fault]:
        with self._changed:
            return [fault for fault in self._faults if fault.is_due(command)]

    def _pass(self) -> None:
        """Wait while nothing passes."""
        with self._changed:
            self._changed.wait_for(lambda: not self._stalled or self._closed)
            if self._closed:  # what a test left held must not be executed after it
                raise Cut

    def _connect(self) -> socket.socket:
        address = address_of(self._url)
        if isinstance(address, str):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(address)
            return connection
        connection = socket.create_connection(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _execute(self, handshakes: list[Command], command: Command) -> bytes:
        with self._connect() as server:
            reader, protocol = Reader(server), self._wire()
            for each in [*handshakes, command]:
                server.sendall(each.raw)
                reply = protocol.reply(reader, each)
        return reply or b""


class _Connection:
    """One client and the connection to the server on its behalf, in a thread."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy, self.client = proxy, client
        self.server: socket.socket | None = None
        self.protocol = proxy._wire()
        self.handshakes: list[Command] = []

    def run(self) -> None:
        try:
            self.proxy._pass()
            if self.proxy._tls:
                self.client = self.proxy._tls.wrap_socket(self.client, server_side=True)
            self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.server = self.proxy._connect()
            self._serve(Reader(self.client), Reader(self.server))
        except BlackHole:
            self._discard()
        except Ended as end:
            with contextlib.suppress(OSError):
                self.client.sendall(end.partial)
        except (OSError, ValueError):  # a Cut too; a ValueError is a client that speaks another protocol
            pass
        finally:
            self.close()
            with self.proxy._changed:
                self.proxy._open.discard(self)

    def close(self) -> None:
        for connection in (self.client, self.server):
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes the thread if it waits there
                connection.close()

    def _serve(self, client: Reader, server: Reader) -> None:
        while True:
            batch = self._batch(client, server)
            self.proxy._note(batch)
            for command in batch:
                if not self._answer(command, server):
                    self._pump()
                    return

    def _batch(self, client: Reader, server: Reader) -> list[Command]:
        """The commands that the client sent at once. What the server says meanwhile is passed on."""
        while not (client.buffer or wire.pending(client.connection)):
            ready = wire.readable([client.connection, server.connection], None)
            if server.connection in ready:
                self._pass_on(server)
            if client.connection in ready:
                break
        batch = [self.protocol.command(client)]
        with contextlib.suppress(Ended):  # it does not wait for the answers: the next read ends the connection
            while client.has_more():
                batch.append(self.protocol.command(client))
        return batch

    def _pass_on(self, server: Reader) -> None:
        server.receive()
        self.proxy._pass()
        self.client.sendall(server.buffer)
        server.buffer.clear()

    def _answer(self, command: Command, server: Reader) -> bool:
        """Execute *command*, with the faults that are due; False if it begins a stream."""
        faults = self.proxy._due(command)
        self.streams = False

        def execute() -> bytes:
            self.proxy._pass()
            server.connection.sendall(command.raw)
            reply = self.protocol.reply(server, command)
            self.proxy._pass()
            self.streams = reply is None
            return reply or b""

        go = execute
        for fault in reversed(faults):
            go = self._through(fault, command, go)
        reply = go()
        if command.handshake:
            self.handshakes.append(command)
        self.client.sendall(reply)
        return not self.streams

    def _through(self, fault: Fault, command: Command, go: Go) -> Go:
        def act() -> bytes:
            if isinstance(fault, Late):
                with self.proxy._changed:
                    fault.kept.append((list(self.handshakes), command))
            return fault.act(fault, command, go)

        return act

    def _pump(self) -> None:
        """Pass on whatever comes from either side."""
        assert self.server is not None
        while True:
            for source in wire.readable([self.client, self.server], None):
                received = source.recv(wire.CHUNK)
                if not received:
                    return
                self.proxy._pass()
                (self.server if source is self.client else self.client).sendall(received)

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            while self.client.recv(wire.CHUNK):
                pass


def address_of(url: str) -> str | tuple[str, int]:
    """The path of the socket, or host and port."""
    if url.startswith("postgresql"):
        made = sa.make_url(url)
        host, port = made.query.get("host", made.host), made.query.get("port", made.port or 5432)
        return f"{host}/.s.PGSQL.{port}" if str(host).startswith("/") else (str(host), int(str(port)))
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else (parts.hostname or HOST, parts.port or 6379)
