"""What travels between a client and Redis or PostgreSQL, cut into commands and their replies, for the proxy."""

from __future__ import annotations

import dataclasses
import select
import socket
import struct
from typing import Protocol

REDIS_HANDSHAKES = {"HELLO", "AUTH", "CLIENT", "SELECT", "READONLY"}
REDIS_STREAMS = {"SUBSCRIBE", "PSUBSCRIBE", "MONITOR", "SYNC", "PSYNC"}
SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
CHUNK = 1 << 20


class Ended(ConnectionError):
    """The other side closed, or broke off in the middle: `partial` is what it had sent by then."""

    def __init__(self, partial: bytes = b"") -> None:
        super().__init__("closed")
        self.partial = partial


@dataclasses.dataclass(frozen=True)
class Command:
    """A Redis command or an SQL statement: its name, its parts, and whether it only sets up the connection."""

    name: str
    """`EVALSHA`, or the first word of the SQL, as `COMMIT`."""
    parts: tuple[bytes, ...]
    """The command and its arguments, or the SQL."""
    raw: bytes = dataclasses.field(repr=False)
    handshake: bool = False

    @property
    def text(self) -> str:
        return b" ".join(self.parts).decode(errors="replace")

    def __contains__(self, text: str) -> bool:
        return text in self.text

    def __str__(self) -> str:
        return self.text[:200]


class Wire(Protocol):
    """One connection's protocol; keeps what it has to remember between commands."""

    def command(self, client: Reader) -> Command:
        """The next command, as soon as it is here."""

    def reply(self, server: Reader, command: Command) -> bytes | None:
        """The reply to *command*; None if from now on both sides send when they like."""


class Reader:
    """Reads whole pieces from a socket, which may bring them in any cut."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = bytearray()

    def line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            self.receive()
        return self.exactly(end + 2)

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self.receive()
        piece = bytes(self.buffer[:size])
        del self.buffer[:size]
        return piece

    def has_more(self) -> bool:
        """Whether there is something to read without waiting."""
        return bool(self.buffer) or pending(self.connection) or readable([self.connection], 0) != []

    def receive(self) -> None:
        received = self.connection.recv(CHUNK)
        if not received:
            raise Ended
        self.buffer += received


def pending(connection: socket.socket) -> bool:
    """Whether TLS has already read what the system no longer reports."""
    return bool(getattr(connection, "pending", int)())


def readable(connections: list[socket.socket], seconds: float | None) -> list[socket.socket]:
    """Those that have something to read, or ended. Not select(), which cannot take more than 1024 open files."""
    by_number = {connection.fileno(): connection for connection in connections}
    if -1 in by_number:
        raise Ended
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(None if seconds is None else seconds * 1000)]


class Redis:
    """RESP 2 and 3."""

    def command(self, client: Reader) -> Command:
        first = client.line()
        raw = bytearray(first)
        parts = first.split()
        if first.startswith(b"*"):
            parts = [self._argument(client, raw) for _ in range(int(first[1:]))]
        name = parts[0].decode(errors="replace").upper() if parts else ""
        return Command(name, tuple(parts), bytes(raw), name in REDIS_HANDSHAKES)

    def reply(self, server: Reader, command: Command) -> bytes | None:
        if command.name in REDIS_STREAMS:
            return None
        raw = bytearray()
        try:
            while self._value(server, raw) == b">":  # what the server says unasked comes before the reply
                pass
        except Ended:
            raise Ended(bytes(raw + server.buffer)) from None
        return bytes(raw)

    def _argument(self, client: Reader, raw: bytearray) -> bytes:
        head = client.line()
        body = client.exactly(int(head[1:]) + 2)
        raw += head + body
        return body[:-2]

    def _value(self, server: Reader, raw: bytearray) -> bytes:
        """Read one value, with all that is in it; its kind."""
        head = server.line()
        raw += head
        kind = head[:1]
        if kind in b"$=!" and int(head[1:]) >= 0:
            raw += server.exactly(int(head[1:]) + 2)
        elif kind in b"*~>%|":
            for _ in range(int(head[1:]) * (2 if kind in b"%|" else 1)):
                self._value(server, raw)
        return self._value(server, raw) if kind == b"|" else kind  # attributes stand before their value


class Postgresql:
    """Version 3, without passwords, COPY and TLS. A command is all that one answer "ready for query" is for."""

    def __init__(self) -> None:
        self.started = False
        self.prepared: dict[bytes, bytes] = {}

    def command(self, client: Reader) -> Command:
        if not self.started:
            return self._start(client)
        raw, sql, executes = bytearray(), b"", False
        kind = b""
        while kind not in (b"Q", b"S", b"X", b"F"):
            kind, body = self._message(client, raw)
            if kind == b"H" and len(raw) == 5:  # behind the end of a pipeline; nobody answers it
                return Command("FLUSH", (), bytes(raw), handshake=True)
            if kind == b"Q":
                sql, executes = body.rstrip(b"\0"), True
            elif kind == b"P":
                name, sql, _ = body.split(b"\0", 2)
                self.prepared[name] = sql
            elif kind == b"B":
                sql = self.prepared.get(body.split(b"\0", 2)[1], b"")
            executes = executes or kind == b"E"
        if kind == b"X":
            return Command("TERMINATE", (), bytes(raw), handshake=True)
        word = (sql.split(None, 1) or [b"SYNC"])[0].rstrip(b";").decode(errors="replace").upper()
        return Command(word if executes or not sql else "PARSE", (sql,), bytes(raw))

    def reply(self, server: Reader, command: Command) -> bytes | None:
        if command.name in ("TERMINATE", "CANCEL", "FLUSH"):
            return b""
        if command.name == "ENCRYPTION":
            return server.exactly(1)
        raw = bytearray()
        try:
            while self._message(server, raw)[0] != b"Z":
                pass
        except Ended:
            raise Ended(bytes(raw + server.buffer)) from None
        return bytes(raw)

    def _start(self, client: Reader) -> Command:
        head = client.exactly(8)
        size, code = struct.unpack("!II", head)
        raw = head + client.exactly(size - 8)
        names = {SSL_REQUEST: "ENCRYPTION", GSS_REQUEST: "ENCRYPTION", CANCEL_REQUEST: "CANCEL"}
        name = names.get(code, "STARTUP")
        self.started = name == "STARTUP"
        return Command(name, tuple(raw[8:].split(b"\0")), raw, handshake=True)

    def _message(self, reader: Reader, raw: bytearray) -> tuple[bytes, bytes]:
        head = reader.exactly(5)
        raw += head
        body = reader.exactly(struct.unpack("!I", head[1:])[0] - 4)
        raw += body
        return head[:1], body
