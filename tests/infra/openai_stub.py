"""An endpoint of our own that speaks OpenAI's chat completions, and does what endpoints do on bad days.

    with Stub(says("Hello", " there")) as stub:
        OpenAIResponder(stub.url, "m", "key")

The acts are played in order, one per request; the last one again and again. `stub.asked` are the requests, `stub.gone` counts
connections that the client has closed while an act was waiting.
"""

from __future__ import annotations

import dataclasses
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .certificates import Certificate

JSON = dict[str, Any]
Act = Callable[["Line"], None]

TIMEOUT = 30
"""Seconds that a test waits for something to happen before it fails."""

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
STREAM = "text/event-stream; charset=utf-8"


@dataclasses.dataclass(frozen=True)
class Question:
    """A request, as it came, and when."""

    path: str
    headers: dict[str, str]
    payload: JSON
    at: float


class Stub:
    """The endpoint, on a port of its own until the block ends."""

    def __init__(self, *acts: Act, tls: Certificate | None = None) -> None:
        self.script: list[Act] = [*acts] or [says("Hello")]
        self.asked: list[Question] = []
        self.gone = 0
        self._closing = threading.Event()
        self._free = threading.Event()
        self.changed = threading.Condition()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                act = stub.next_act(Question(self.path, dict(self.headers), payload, time.monotonic()))
                try:
                    act(Line(stub, self))
                except OSError:
                    stub.note_gone()
                    self.close_connection = True

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *arguments: Any) -> None:
                """Clients that go away are what this is for."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls:
            wrapped = tls.for_server().wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self._server.socket = wrapped
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._free.set()
        self.refuse()

    def refuse(self) -> None:
        """From now on no server listens."""
        self._server.shutdown()
        self._server.server_close()

    def go_on(self) -> None:
        """Let acts that `wait` go on."""
        self._free.set()

    def next_act(self, question: Question) -> Act:
        with self.changed:
            self.asked.append(question)
            self.changed.notify_all()
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def note_gone(self) -> None:
        with self.changed:
            self.gone += 1
            self.changed.notify_all()

    def wait_asked(self, n: int = 1) -> None:
        """Wait for the *n*-th request."""
        self._wait(lambda: len(self.asked) >= n, "requests")

    def wait_gone(self, n: int = 1) -> None:
        """Wait until *n* clients have closed their connection in the middle of an act."""
        self._wait(lambda: self.gone >= n, "closed connections")

    def _wait(self, is_so: Callable[[], bool], what: str) -> None:
        with self.changed:
            if not self.changed.wait_for(is_so, TIMEOUT):
                raise TimeoutError(f"Not enough {what} in {TIMEOUT} s: asked {len(self.asked)}, gone {self.gone}.")


class Line:
    """The answer to one request, while it is being given."""

    def __init__(self, stub: Stub, handler: BaseHTTPRequestHandler) -> None:
        self.stub, self._handler = stub, handler

    def begin(self, status: int = 200, content_type: str = STREAM, **headers: str) -> None:
        self._handler.send_response(status)
        for name, value in {"Content-Type": content_type, "Transfer-Encoding": "chunked", **headers}.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()

    def raw(self, data: bytes) -> None:
        """Send bytes, in a packet of their own."""
        self._handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, data: Any) -> None:
        self.raw(
            b"data: " + (data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode()) + b"\n\n"
        )

    def delta(self, finish: str | None = None, **delta: Any) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.event({"id": "c", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice], "usage": None})

    def usage(self, usage: JSON | None = None) -> None:
        self.event({"model": "m-1", "choices": [], "usage": usage or USAGE})

    def done(self) -> None:
        self.event(b"[DONE]")
        self.end()

    def end(self) -> None:
        self._handler.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """The connection breaks."""
        self._handler.close_connection = True
        self._handler.connection.shutdown(socket.SHUT_RDWR)

    def wait(self, free: threading.Event | None = None, timeout: float = TIMEOUT) -> None:
        """Say nothing until the test says `stub.go_on()`, or sets *free*, or the client goes away."""
        free = free or self.stub._free
        ends = time.monotonic() + timeout
        while time.monotonic() < ends and not (free.is_set() or self.stub._closing.is_set()):
            readable, _, _ = select.select([self._handler.connection], [], [], 0.02)
            if readable and not socket.socket.recv(self._handler.connection, 1, socket.MSG_PEEK):
                raise ConnectionResetError


def says(*pieces: str, usage: JSON | None = None, finish: str = "stop") -> Act:
    """A whole answer, a chunk for each piece."""

    def act(line: Line) -> None:
        line.begin()
        line.delta(role="assistant", content="")
        for piece in pieces:
            line.delta(content=piece)
        line.delta(finish)
        line.usage(usage)
        line.done()

    return act


def calls(*asked: tuple[str, str, str], text: str = "", size: int = 3) -> Act:
    """Asks for tools: (id, name, arguments), each argument in pieces of *size* letters."""

    def act(line: Line) -> None:
        line.begin()
        if text:
            line.delta(content=text)
        for index, (id, name, arguments) in enumerate(asked):
            head = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
            line.delta(tool_calls=[head])
            for start in range(0, len(arguments), size):
                line.delta(tool_calls=[{"index": index, "function": {"arguments": arguments[start : start + size]}}])
        line.delta("tool_calls")
        line.usage()
        line.done()

    return act


def deltas(*given: JSON, finish: str | None = "stop") -> Act:
    """An answer of these deltas; without *finish* it just ends."""

    def act(line: Line) -> None:
        line.begin()
        for delta in given:
            line.delta(**delta)
        if finish is None:
            line.end()
        else:
            line.delta(finish)
            line.done()

    return act


def fails(status: int, body: Any = None, **headers: str) -> Act:
    """An error instead of an answer, as JSON or as it is."""

    def act(line: Line) -> None:
        line.begin(status, "application/json", **headers)
        line.raw(
            body if isinstance(body, bytes) else json.dumps(body or {"error": {"message": "secret words"}}).encode()
        )
        line.end()

    return act


def stalls(*pieces: str) -> Act:
    """Says nothing for a long time: before the first byte, or after *pieces*; then the rest."""

    def act(line: Line) -> None:
        if pieces:
            line.begin()
            for piece in pieces:
                line.delta(content=piece)
        line.wait()
        if not pieces:
            line.begin()
        line.delta(content=" (late)")
        line.delta("stop")
        line.done()

    return act


def rests(pieces: Sequence[str], at: int, free: threading.Event) -> Act:
    """A whole answer that stands still after *at* pieces, until the test sets *free*."""

    def act(line: Line) -> None:
        line.begin()
        line.delta(role="assistant", content="")
        for piece in pieces[:at]:
            line.delta(content=piece)
        line.wait(free, 10 * TIMEOUT)
        for piece in pieces[at:]:
            line.delta(content=piece)
        line.delta("stop")
        line.done()

    return act


def cuts(*pieces: str, half: bytes = b"", finish: str | None = None) -> Act:
    """Breaks the connection after *pieces*, and after *half* of an event."""

    def act(line: Line) -> None:
        line.begin()
        for piece in pieces:
            line.delta(content=piece)
        if finish:
            line.delta(finish)
        if half:
            line.raw(half)
        line.cut()

    return act


def hangs_up(line: Line) -> None:
    """Breaks the connection before it says anything."""
    line.cut()


def sends(*packets: bytes, content_type: str = STREAM) -> Act:
    """These bytes, a packet each, and a proper end."""

    def act(line: Line) -> None:
        line.begin(content_type=content_type)
        for packet in packets:
            line.raw(packet)
        line.end()

    return act


def in_packets(text: str, size: int = 1) -> Act:
    """A whole answer, *size* bytes per packet: characters and events are torn."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
    data = f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\r\n\r\ndata: [DONE]\r\n\r\n".encode()
    return sends(*(data[start : start + size] for start in range(0, len(data), size)))


def whole(text: str, **more: Any) -> Act:
    """The answer in one piece, from an endpoint that does not stream."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **more}, "finish_reason": "stop"}
    return sends(
        json.dumps({"model": "m-1", "choices": [choice], "usage": USAGE}).encode(), content_type="application/json"
    )
